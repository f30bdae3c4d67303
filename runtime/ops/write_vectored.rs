//! `IORING_OP_WRITEV`: one write of several buffers.
#![allow(unsafe_code)]

use std::io;

use io_uring::{opcode, types};
use ringhold_buffers::IoBuf;

use crate::failed::Failed;
use crate::fd::Fd;
use crate::op::{Entry, Operation};
use crate::ops::alignment::{Alignment, explain_append};
use crate::ops::segments::{Segments, check_each};

/// Writes the initialised bytes of several buffers at an offset, one after the other.
#[derive(Debug)]
pub struct WriteVectored<B> {
    file: Fd,
    alignment: Option<Alignment>,
    appends: bool,
    buffers: Vec<B>,
    offset: u64,
    segments: Segments,
}

impl<B> WriteVectored<B> {
    /// A write at `offset` of all of `buffers`; see [`Write`](crate::ops::Write) for the fields.
    pub fn new(file: Fd, alignment: Option<Alignment>, buffers: Vec<B>, offset: u64) -> Self {
        let segments = Segments::default();
        WriteVectored { file, alignment, appends: false, buffers, offset, segments }
    }

    /// Says whether it goes to the file's end, whatever the offset says.
    pub fn appending(mut self, appends: bool) -> Self {
        self.appends = appends;
        self
    }
}

// SAFETY: the entry points to the segments on the heap and they to the buffers' memory, all of
// which stays in place while this value moves (S2) and is not changed before `finish` (S1); the
// kernel only reads through the pointers.
unsafe impl<B: IoBuf> Operation for WriteVectored<B> {
    type Output = Result<(usize, Vec<B>), Failed<Vec<B>>>;

    fn check(&self) -> io::Result<()> {
        let offset = if self.appends { 0 } else { self.offset };
        check_each(self.alignment, &self.buffers, B::bytes_init, offset)
    }

    fn file(&self) -> Option<&Fd> {
        Some(&self.file)
    }

    fn entry(&mut self) -> Entry {
        let buffers = self.buffers.iter();
        self.segments.fill(buffers.map(|each| (each.stable_ptr().cast_mut(), each.bytes_init())));
        let file = types::Fd(self.file.descriptor());
        opcode::Writev::new(file, self.segments.pointer(), self.segments.count())
            .offset(self.offset)
            .build()
            .into()
    }

    fn finish(self, outcome: io::Result<u32>) -> Self::Output {
        match outcome {
            Ok(count) => Ok((count as usize, self.buffers)),
            Err(error) => {
                let error = explain_append(&self.file, self.alignment, self.appends, error);
                Err(Failed { error, buffer: self.buffers })
            }
        }
    }
}
