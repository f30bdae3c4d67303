//! `IORING_OP_READV`: one read into several buffers.
#![allow(unsafe_code)]

use std::io;

use io_uring::{opcode, types};
use ringhold_buffers::IoBufMut;

use crate::failed::Failed;
use crate::fd::Fd;
use crate::op::{Entry, Operation};
use crate::ops::alignment::Alignment;
use crate::ops::segments::{Segments, check_each};

/// Reads at an offset into several buffers, one after the other.
#[derive(Debug)]
pub struct ReadVectored<B> {
    file: Fd,
    alignment: Option<Alignment>,
    buffers: Vec<B>,
    offset: u64,
    segments: Segments,
}

impl<B> ReadVectored<B> {
    /// A read at `offset` into all of `buffers`; see [`Read`](crate::ops::Read) for the fields.
    pub fn new(file: Fd, alignment: Option<Alignment>, buffers: Vec<B>, offset: u64) -> Self {
        ReadVectored { file, alignment, buffers, offset, segments: Segments::default() }
    }
}

// SAFETY: the entry points to the segments on the heap and they to the buffers' memory, all of
// which stays in place while this value moves (S2) and is not touched before `finish` (S1).
unsafe impl<B: IoBufMut> Operation for ReadVectored<B> {
    type Output = Result<(usize, Vec<B>), Failed<Vec<B>>>;

    fn check(&self) -> io::Result<()> {
        check_each(self.alignment, &self.buffers, B::bytes_total, self.offset)
    }

    fn file(&self) -> Option<&Fd> {
        Some(&self.file)
    }

    fn entry(&mut self) -> Entry {
        let buffers = self.buffers.iter_mut();
        self.segments.fill(buffers.map(|each| (each.stable_mut_ptr(), each.bytes_total())));
        let file = types::Fd(self.file.descriptor());
        opcode::Readv::new(file, self.segments.pointer(), self.segments.count())
            .offset(self.offset)
            .build()
            .into()
    }

    fn finish(mut self, outcome: io::Result<u32>) -> Self::Output {
        let count = match outcome {
            Ok(count) => count as usize,
            Err(error) => return Err(Failed { error, buffer: self.buffers }),
        };
        let mut rest = count;
        for buffer in &mut self.buffers {
            let here = rest.min(buffer.bytes_total());
            // SAFETY: the kernel filled the buffers in order, each whole before the next, `count`
            // bytes in all (S9).
            unsafe { buffer.set_init(here) };
            rest -= here;
        }
        Ok((count, self.buffers))
    }
}
