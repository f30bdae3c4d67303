//! The methods that whole streams and their halves have, written once. Each type that uses them has
//! a method `stream`, which gives the stream inside.

/// Methods of what can be read.
macro_rules! reading {
    () => {
        /// Waits until there is something to be read, or the peer will send no more. It may turn
        /// out to be too early all the same: then `try_read` says `WouldBlock`.
        ///
        /// # Errors
        ///
        /// If the runtime has shut down.
        ///
        /// # Cancel safety
        ///
        /// Safe: nothing is taken.
        ///
        /// # Kernel
        ///
        /// `IORING_OP_POLL_ADD`, since 5.1.
        pub async fn readable(&self) -> io::Result<()> {
            self.ready(Interest::READABLE).await.map(drop)
        }

        /// Reads what is there now. Returns the count of bytes, 0 at the stream's end.
        ///
        /// # Errors
        ///
        /// `WouldBlock` if nothing is there; `ConnectionReset`.
        pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
            self.stream().try_read(buf, 0)
        }

        /// As `try_read`, into several buffers in turn.
        ///
        /// # Errors
        ///
        /// As for `try_read`.
        pub fn try_read_vectored(&self, bufs: &mut [io::IoSliceMut<'_>]) -> io::Result<usize> {
            self.stream().try_read_vectored(bufs, 0)
        }

        /// As `try_read`, into the room that a buffer has, which grows by the count of bytes.
        ///
        /// # Errors
        ///
        /// As for `try_read`.
        pub fn try_read_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
            self.stream().try_read_buf(buf)
        }

        /// Reads into `buffer`, from its start, as much as there is and fits into its capacity;
        /// waits until there is something. Returns the count of bytes, 0 at the stream's end, and
        /// the buffer.
        ///
        /// # Errors
        ///
        /// `ConnectionReset`.
        ///
        /// # Cancel safety
        ///
        /// Safe: what arrives for a dropped read is given to the next one, of whichever kind. The
        /// buffer is gone, a lease back in its pool.
        ///
        /// # Kernel
        ///
        /// `IORING_OP_RECV`, since 5.6.
        pub async fn read_owned<B: IoBufMut>(&self, buffer: B) -> Result<(usize, B), Failed<B>> {
            self.stream().read_owned(buffer).await
        }

        /// As `read_owned`, into registered memory and by the fixed opcode only.
        ///
        /// # Errors
        ///
        /// As for `read_owned`; `InvalidInput` for a lease of a pool that isn't registered.
        ///
        /// # Cancel safety
        ///
        /// Safe: what arrives for a dropped read is given to the next one, of whichever kind. The
        /// lease goes back to its pool.
        ///
        /// # Kernel
        ///
        /// `IORING_OP_READ_FIXED`, since 5.1, and `IORING_OP_POLL_ADD` where nothing is there yet.
        pub async fn read_fixed<B: FixedBufMut>(&self, buffer: B) -> Result<(usize, B), Failed<B>> {
            self.stream().read_fixed(buffer).await
        }
    };
}

/// Methods of what can be written.
macro_rules! writing {
    () => {
        /// Waits until there is room for something to be written, or the peer will take no more.
        /// It may turn out to be too early all the same: then `try_write` says `WouldBlock`.
        ///
        /// # Errors
        ///
        /// If the runtime has shut down.
        ///
        /// # Cancel safety
        ///
        /// Safe: nothing is written.
        ///
        /// # Kernel
        ///
        /// `IORING_OP_POLL_ADD`, since 5.1.
        pub async fn writable(&self) -> io::Result<()> {
            self.ready(Interest::WRITABLE).await.map(drop)
        }

        /// Writes as much as there is room for now, and gives the count of bytes.
        ///
        /// # Errors
        ///
        /// `WouldBlock` if there is no room; `BrokenPipe`, `ConnectionReset`.
        pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
            self.stream().try_write_vectored(&[io::IoSlice::new(buf)])
        }

        /// As `try_write`, from several buffers in turn.
        ///
        /// # Errors
        ///
        /// As for `try_write`.
        pub fn try_write_vectored(&self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
            self.stream().try_write_vectored(bufs)
        }

        /// Writes `buffer`, as much of it as is taken at once; waits until there is room. Returns
        /// the count of bytes, and the buffer. The kernel takes less than 2 GiB at once. No write
        /// of a stream raises `SIGPIPE`.
        ///
        /// # Errors
        ///
        /// `BrokenPipe`, `ConnectionReset`.
        ///
        /// # Cancel safety
        ///
        /// Outcome unknown: some, all or none of the bytes may be written, and never others. What
        /// is written next comes after them.
        ///
        /// # Kernel
        ///
        /// `IORING_OP_SEND`, since 5.6.
        pub async fn write_owned<B: IoBuf>(&self, buffer: B) -> Result<(usize, B), Failed<B>> {
            self.stream().write_owned(buffer).await
        }

        /// Writes the whole of `buffer`. Returns its length, and the buffer.
        ///
        /// # Errors
        ///
        /// As for `write_owned`; some of the bytes may be written then.
        ///
        /// # Cancel safety
        ///
        /// Outcome unknown: some, all or none of the bytes may be written, and never others.
        ///
        /// # Kernel
        ///
        /// `IORING_OP_SEND`, since 5.6, as often as it takes.
        pub async fn write_all_owned<B: IoBuf>(&self, buffer: B) -> Result<(usize, B), Failed<B>> {
            self.stream().write_all_owned(buffer).await
        }

        /// Writes all of `buffers`, one after the other, as much as is taken at once; waits until
        /// there is room. Returns the count of bytes, and the buffers, of which the kernel takes at
        /// most 1024.
        ///
        /// A head and a body that is shared by many clients go together by this: both as
        /// `bytes::Bytes`, the body being a frozen lease.
        ///
        /// # Errors
        ///
        /// As for `write_owned`.
        ///
        /// # Cancel safety
        ///
        /// Outcome unknown: as for `write_owned`.
        ///
        /// # Kernel
        ///
        /// `IORING_OP_SENDMSG`, since 5.3.
        pub async fn write_vectored_owned<B: IoBuf>(
            &self,
            buffers: Vec<B>,
        ) -> Result<(usize, Vec<B>), Failed<Vec<B>>> {
            self.stream().write_vectored_owned(buffers).await
        }

        /// As `write_owned`, from registered memory and by the fixed opcode only.
        ///
        /// # Errors
        ///
        /// As for `write_owned`; `InvalidInput` for an empty lease, and for one of a pool that
        /// isn't registered.
        ///
        /// # Cancel safety
        ///
        /// Outcome unknown: some, all or none of the bytes may be written, and never others. The
        /// lease goes back once the kernel is done with it.
        ///
        /// # Kernel
        ///
        /// `IORING_OP_WRITE_FIXED` with `RWF_NOSIGNAL`, since 6.18, and `IORING_OP_POLL_ADD` where
        /// there is no room yet. An older kernel would raise `SIGPIPE` by that where the peer is
        /// gone: there the lease's bytes go by `IORING_OP_SEND`.
        pub async fn write_fixed<B: FixedBuf>(&self, buffer: B) -> Result<(usize, B), Failed<B>> {
            self.stream().write_fixed(buffer).await
        }

        /// Writes the whole of `buffer` as `write_fixed` does. Returns its length, and the buffer.
        ///
        /// # Errors
        ///
        /// As for `write_fixed`; some of the bytes may be written then.
        ///
        /// # Cancel safety
        ///
        /// Outcome unknown: some, all or none of the bytes may be written, and never others. The
        /// lease goes back once the kernel is done with it.
        ///
        /// # Kernel
        ///
        /// As for `write_fixed`, as often as it takes.
        pub async fn write_all_fixed<B: FixedBuf>(
            &self,
            buffer: B,
        ) -> Result<(usize, B), Failed<B>> {
            self.stream().write_all_fixed(buffer).await
        }
    };
}

/// Methods of streams and halves, which answer in the given type of addresses.
macro_rules! asking {
    ($address:ty) => {
        /// Waits until what `interest` names is there. It may turn out to be too early all the
        /// same.
        ///
        /// # Errors
        ///
        /// If the runtime has shut down.
        ///
        /// # Cancel safety
        ///
        /// Safe: nothing is taken and nothing is written.
        ///
        /// # Kernel
        ///
        /// `IORING_OP_POLL_ADD`, since 5.1.
        pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
            self.stream().ready(interest).await
        }

        /// The address of this end.
        ///
        /// # Errors
        ///
        /// `ENOBUFS` of a kernel that is out of memory.
        pub fn local_addr(&self) -> io::Result<$address> {
            address(&self.stream().socket.local_address()?)
        }

        /// The address of the other end.
        ///
        /// # Errors
        ///
        /// `NotConnected` once the connection is gone.
        pub fn peer_addr(&self) -> io::Result<$address> {
            address(&self.stream().socket.peer_address()?)
        }
    };
}

/// Methods of whole streams only.
macro_rules! owning {
    ($std:ty) => {
        /// Waits until there is something to be read, for the one task that polls last.
        ///
        /// # Errors
        ///
        /// If the runtime has shut down.
        pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.stream().poll_ready(Direction::In, cx)
        }

        /// Waits until there is room for something to be written, for the one task that polls last.
        ///
        /// # Errors
        ///
        /// If the runtime has shut down.
        pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.stream().poll_ready(Direction::Out, cx)
        }

        /// Lets `f` use the socket by itself.
        ///
        /// # Errors
        ///
        /// Those of `f`; `WouldBlock` while an owned read or write that was dropped is in flight,
        /// and an error in words if one has brought bytes that `f` would pass over.
        pub fn try_io<R>(
            &self,
            interest: Interest,
            f: impl FnOnce() -> io::Result<R>,
        ) -> io::Result<R> {
            self.stream().try_io(interest, f)
        }

        /// Waits until the socket is ready, and lets `f` use it by itself, again and again while
        /// that says `WouldBlock`.
        ///
        /// # Errors
        ///
        /// As for `try_io`, but for `WouldBlock`.
        ///
        /// # Cancel safety
        ///
        /// Safe: `f` is called between two waits, and only a wait can be dropped.
        pub async fn async_io<R>(
            &self,
            interest: Interest,
            f: impl FnMut() -> io::Result<R>,
        ) -> io::Result<R> {
            self.stream().async_io(interest, f).await
        }

        /// The error that the socket has met and no call has returned yet.
        ///
        /// # Errors
        ///
        /// `EBADF` never; the kernel knows no others.
        pub fn take_error(&self) -> io::Result<Option<io::Error>> {
            self.stream().socket.take_error()
        }

        /// Takes over a stream of std's, which doesn't block from then on.
        ///
        /// # Errors
        ///
        /// If that can't be had.
        ///
        /// # Panics
        ///
        /// In a simulation, which has no way to std's sockets.
        #[track_caller]
        pub fn from_std(stream: $std) -> io::Result<Self> {
            stream.set_nonblocking(true)?;
            Ok(Self::new(Socket::adopt(stream.into())))
        }

        /// Hands the stream over to std, as one that doesn't block.
        ///
        /// # Errors
        ///
        /// If an owned read that was dropped has brought bytes, or may still do so: the error holds
        /// an [`Undelivered`](crate::Undelivered), which gives the stream back. `EMFILE` where an
        /// operation that was dropped still holds the socket, and there is no descriptor left for
        /// another one of it.
        ///
        /// # Panics
        ///
        /// In a simulation, whose sockets std has no way to.
        pub fn into_std(self) -> io::Result<$std> {
            give_away(self.0, Self)
        }
    };
}

/// tokio's `AsyncRead` for a type.
macro_rules! async_read {
    ($type:ty) => {
        /// # Cancel safety
        ///
        /// Safe: a read that is dropped has taken nothing.
        impl AsyncRead for $type {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                self.stream().poll_read(cx, buf, 0).map_ok(drop)
            }
        }
    };
}

/// tokio's `AsyncWrite` for a type. `$after` is told of a successful shutdown.
macro_rules! async_write {
    ($type:ty, $after:expr) => {
        /// # Cancel safety
        ///
        /// Safe: a write that is dropped has written nothing.
        impl AsyncWrite for $type {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                self.stream().poll_write(cx, &[io::IoSlice::new(buf)])
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                self.stream().poll_write(cx, bufs)
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                let shut = std::task::ready!(self.stream().poll_shutdown(cx));
                let after: fn(&mut $type) = $after;
                if shut.is_ok() {
                    after(self.get_mut());
                }
                Poll::Ready(shut)
            }
        }
    };
}

pub(crate) use {asking, async_read, async_write, owning, reading, writing};
