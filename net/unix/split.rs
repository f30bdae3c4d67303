//! The two halves of a Unix stream.

use std::fmt;
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BufMut;
use ringhold_buffers::{FixedBuf, FixedBufMut, IoBuf, IoBufMut};
use ringhold_runtime::Failed;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::halves::halves;
use crate::leases::leasing;
use crate::macros::{asking, async_read, async_write, reading, writing};
use crate::readiness::{Interest, Ready};
use crate::stream::Stream;
use crate::unix::address::address;
use crate::unix::{SocketAddr, UnixStream};

halves!(UnixStream, SocketAddr);

impl ReadHalf<'_> {
    leasing!();
}

impl OwnedReadHalf {
    leasing!();
}
