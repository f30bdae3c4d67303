//! tokio's `AsyncRead`, `AsyncWrite` and `AsyncSeek` for files.

use std::io::{self, IoSlice, SeekFrom};
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncSeek, AsyncWrite, ReadBuf};

use crate::file::File;

/// Reads at the cursor, through a buffer of the file's own. A direct file is read in whole blocks,
/// whatever is asked for, and what is left of the last one is for the next read.
///
/// # Cancel safety
///
/// Safe: what a dropped read brings is given to the next one. Where others have the open file, too,
/// and this one is dropped, sought, written to or given away first, it goes back: they read it
/// next, unless they have moved on meanwhile.
impl AsyncRead for File {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let File { target, cursor, .. } = self.get_mut();
        cursor.get_mut().poll_read(target, cx, into)
    }
}

/// Writes at the cursor, through a buffer of the file's own: a write is ready when its bytes are
/// copied, and its error is that of the next write, or of the flush. Writes are done one after the
/// other. A direct file takes whole blocks where one begins; anything else is refused by the write
/// itself, with an [`AlignmentError`](ringhold_runtime::ops::AlignmentError).
///
/// # Cancel safety
///
/// Safe: a dropped write has copied nothing.
impl AsyncWrite for File {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let File { target, cursor, .. } = self.get_mut();
        cursor.get_mut().poll_write(target, cx, std::iter::once(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let File { target, cursor, .. } = self.get_mut();
        cursor.get_mut().poll_write(target, cx, parts.iter().map(Deref::deref))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let File { target, cursor, .. } = self.get_mut();
        cursor.get_mut().poll_flush(target, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

/// Moves the cursor to wherever the file's file system can have a position.
///
/// # Cancel safety
///
/// Loses progress: a dropped seek may have moved the cursor.
impl AsyncSeek for File {
    fn start_seek(self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        let File { target, cursor, .. } = self.get_mut();
        cursor.get_mut().start_seek(target, to)
    }

    fn poll_complete(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        let File { target, cursor, .. } = self.get_mut();
        cursor.get_mut().poll_seek(target, cx)
    }
}
