//! Buffers that panic in the methods that the runtime calls.

#![allow(unsafe_code)] // The buffer's side of the contract.

use runtime::buffers::{IoBuf, IoBufMut};

use super::expected;

/// A buffer that panics when it is told what it was filled with, or asked where it is.
#[derive(Debug)]
pub struct Trap {
    bytes: Vec<u8>,
    has_place: bool,
}

impl Trap {
    pub fn new(length: usize) -> Trap {
        Trap { bytes: vec![0; length], has_place: true }
    }

    pub fn unpointable(length: usize) -> Trap {
        Trap { bytes: vec![0; length], has_place: false }
    }
}

// SAFETY: the vector's memory stays where it is while the vector moves (S2), and it is filled (S9).
unsafe impl IoBuf for Trap {
    fn stable_ptr(&self) -> *const u8 {
        self.bytes.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.bytes.len()
    }

    fn bytes_total(&self) -> usize {
        self.bytes.len()
    }
}

// SAFETY: as above, and the vector is the only way to its bytes (S5).
unsafe impl IoBufMut for Trap {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        if !self.has_place {
            expected();
        }
        self.bytes.as_mut_ptr()
    }

    unsafe fn set_init(&mut self, _position: usize) {
        expected();
    }
}
