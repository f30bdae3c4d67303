//! The memory that entries point to, as a kernel reaches it.

#![allow(unsafe_code)] // It follows the addresses of entries.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

use ringhold_kernel::Call;

/// What a read's target gets at its push: a buffer that is looked at too early shows this.
const POISON: u8 = 0xDB;

/// Memory that an entry which was pushed points to, and which is the kernel's until the entry's
/// final completion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    address: usize,
    length: usize,
}

impl Span {
    /// # Safety
    ///
    /// The memory is the kernel's for as long as the span is used: it is valid for reads, and for
    /// writes if anything of this type that writes is called (S1, S2).
    pub(crate) unsafe fn new(address: u64, length: usize) -> Span {
        Span { address: address as usize, length }
    }

    pub(crate) fn address(self) -> usize {
        self.address
    }

    pub(crate) fn length(self) -> usize {
        self.length
    }

    /// What is left of it behind its first `count` bytes.
    pub(crate) fn skip(self, count: usize) -> Span {
        assert!(count <= self.length, "a span ends before that");
        Span { address: self.address + count, length: self.length - count }
    }

    fn pointer(self) -> *mut u8 {
        ptr::with_exposed_provenance_mut(self.address)
    }

    /// The first `length` bytes of what is written from. All of them are initialised: that is what
    /// the entry's length says of a source.
    pub(crate) fn source(&self) -> &[u8] {
        // SAFETY: valid for reads as `new` was promised (S1, S2), and initialised (S9).
        unsafe { std::slice::from_raw_parts(self.pointer(), self.length) }
    }

    /// Puts bytes at the start of what is read into.
    pub(crate) fn fill(self, bytes: &[u8]) {
        assert!(bytes.len() <= self.length, "more was read than there is room for");
        // SAFETY: valid for writes as `new` was promised (S1, S2), and nobody else's meanwhile.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.pointer(), bytes.len()) };
    }

    /// Copies what is there, initialised or not, and overwrites it.
    pub(crate) fn poison(self) -> Vec<MaybeUninit<u8>> {
        let mut saved = vec![MaybeUninit::uninit(); self.length];
        // SAFETY: valid for reads and writes as `new` was promised (S1, S2); bytes that are not
        // initialised stay so in the copy, whose type says that they may be (S9).
        unsafe {
            ptr::copy_nonoverlapping(self.pointer().cast(), saved.as_mut_ptr(), self.length);
            ptr::write_bytes(self.pointer(), POISON, self.length);
        }
        saved
    }

    /// Whether all of it still is as the poison left it.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.source().iter().all(|byte| *byte == POISON)
    }

    /// Puts back what was there before the poison.
    pub(crate) fn restore(self, saved: &[MaybeUninit<u8>]) {
        assert_eq!(saved.len(), self.length);
        // SAFETY: as for `fill`; what was not initialised is so again (S9).
        unsafe { ptr::copy_nonoverlapping(saved.as_ptr(), self.pointer().cast(), saved.len()) };
    }

    /// A number that changes when the bytes do.
    pub(crate) fn checksum(&self) -> u64 {
        checksum(self.source())
    }
}

/// A number for bytes, the same in every run.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x9E37_79B9_7F4A_7C15;
    const LANES: usize = 4;
    let mix = |sum: u64, word: u64| (sum.rotate_left(23) ^ word).wrapping_mul(PRIME);
    // Sums that don't wait for each other: every transfer passes through here twice.
    let mut lanes = [bytes.len() as u64; LANES];
    let mut blocks = bytes.chunks_exact(8 * LANES);
    for block in &mut blocks {
        for (lane, word) in lanes.iter_mut().zip(block.chunks_exact(8)) {
            *lane = mix(*lane, u64::from_le_bytes(word.try_into().expect("chunks of eight")));
        }
    }
    let sum = lanes.into_iter().reduce(mix).expect("there are lanes");
    blocks.remainder().iter().fold(sum, |sum, byte| mix(sum, u64::from(*byte)))
}

/// The path that an entry points to.
///
/// # Safety
///
/// The address is that of a path which is the kernel's (S1, S2).
pub(crate) unsafe fn path(address: u64) -> Vec<u8> {
    // SAFETY: as the caller promises (S1, S2); a path ends with a nul.
    unsafe { CStr::from_ptr(ptr::with_exposed_provenance(address as usize)) }.to_bytes().to_vec()
}

/// The nanoseconds of the time that an entry points to.
///
/// # Safety
///
/// The address is that of a time which is the kernel's (S1, S2).
pub(crate) unsafe fn nanos(address: u64) -> u64 {
    // A `__kernel_timespec` has 64 bits for each.
    let time: *const [i64; 2] = ptr::with_exposed_provenance(address as usize);
    // SAFETY: as the caller promises (S1, S2).
    let [seconds, nanos] = unsafe { time.read() };
    (seconds * 1_000_000_000 + nanos) as u64
}

/// The segments that a vectored entry points to.
///
/// # Safety
///
/// `address` is that of `count` segments which, with all they name, are the kernel's (S1, S2).
pub(crate) unsafe fn segments(address: u64, count: u32) -> Vec<Span> {
    let first: *const libc::iovec = ptr::with_exposed_provenance(address as usize);
    // SAFETY: as the caller promises (S1, S2).
    let vectors = unsafe { std::slice::from_raw_parts(first, count as usize) };
    let spans = vectors.iter().map(|vector| {
        // SAFETY: as the caller promises (S1, S2).
        unsafe { Span::new(vector.iov_base.expose_provenance() as u64, vector.iov_len) }
    });
    spans.collect()
}

/// The memory that the segments of a message name.
///
/// # Safety
///
/// The address is that of a `msghdr`, which is the kernel's with all that its segments name (S1,
/// S2).
pub(crate) unsafe fn message(address: u64) -> Vec<Span> {
    let header: *const libc::msghdr = ptr::with_exposed_provenance(address as usize);
    // SAFETY: as the caller promises (S1, S2).
    unsafe {
        let message = &*header;
        segments(message.msg_iov.expose_provenance() as u64, message.msg_iovlen as u32)
    }
}

/// Where the answer of a `statx` goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer(usize);

impl Answer {
    /// # Safety
    ///
    /// The address is that of a `statx` which is the kernel's for as long as this is used (S1, S2).
    pub(crate) unsafe fn new(address: u64) -> Answer {
        Answer(address as usize)
    }

    /// The answer's place, to be filled in.
    pub(crate) fn with(self, fill: impl FnOnce(&mut libc::statx)) {
        let place: *mut libc::statx = ptr::with_exposed_provenance_mut(self.0);
        // SAFETY: as `new` was promised (S1, S2); it is integers only, which are zero at first
        // (S9).
        fill(unsafe { &mut *place });
    }
}

/// A cold call that the kernel has.
#[derive(Debug)]
pub(crate) struct CallAddress(usize);

impl CallAddress {
    /// # Safety
    ///
    /// The call is the kernel's for as long as this is used (S1, S2), and this is its only name.
    pub(crate) unsafe fn new(call: NonNull<Call>) -> CallAddress {
        CallAddress(call.as_ptr().expose_provenance())
    }

    /// What is in the call. It is answered once, so nobody else has it meanwhile.
    pub(crate) fn with<R>(&self, answer: impl FnOnce(&mut Call) -> R) -> R {
        let call: *mut Call = ptr::with_exposed_provenance_mut(self.0);
        // SAFETY: as `new` was promised (S1, S2); the reference ends with `answer`, which has no
        // way to this value.
        answer(unsafe { &mut *call })
    }
}
