//! The two halves of a TCP stream.

use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BufMut;
use ringhold_buffers::{FixedBuf, FixedBufMut, IoBuf, IoBufMut};
use ringhold_runtime::Failed;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::address::inet as address;
use crate::halves::halves;
use crate::leases::leasing;
use crate::macros::{asking, async_read, async_write, reading, writing};
use crate::readiness::{Interest, Ready};
use crate::stream::Stream;
use crate::tcp::TcpStream;
use crate::zero_copy::zero_copy;

halves!(TcpStream, SocketAddr);

macro_rules! peeking {
    ($half:ty) => {
        impl $half {
            /// Reads what comes next and leaves it there. Returns the count of bytes.
            ///
            /// # Errors
            ///
            /// `ConnectionReset`.
            ///
            /// # Cancel safety
            ///
            /// Safe: nothing is taken.
            pub async fn peek(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                self.stream().peek(buf).await
            }

            /// As [`peek`](Self::peek), for the one task that polls last.
            ///
            /// # Errors
            ///
            /// As for [`peek`](Self::peek).
            pub fn poll_peek(
                &mut self,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<usize>> {
                self.stream().poll_read(cx, buf, libc::MSG_PEEK)
            }
        }
    };
}

impl ReadHalf<'_> {
    leasing!();
}

impl OwnedReadHalf {
    leasing!();
}

impl WriteHalf<'_> {
    zero_copy!();
}

impl OwnedWriteHalf {
    zero_copy!();
}

peeking!(ReadHalf<'_>);
peeking!(OwnedReadHalf);
