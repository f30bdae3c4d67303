//! The methods that sockets of datagrams have, written once. The type that uses them has
//! `send_now`, `receive_now` and `name`, which says in its own words who sent a datagram.

macro_rules! datagrams {
    ($address:ty, $std:ty) => {
        /// Takes over a socket of std's, which doesn't block from then on.
        ///
        /// # Errors
        ///
        /// If that can't be had.
        ///
        /// # Panics
        ///
        /// In a simulation, which has no way to std's sockets.
        #[track_caller]
        pub fn from_std(socket: $std) -> io::Result<Self> {
            socket.set_nonblocking(true)?;
            Ok(Self(Socket::adopt(socket.into()).named()))
        }

        /// Hands the socket over to std, as one that doesn't block.
        ///
        /// # Errors
        ///
        /// `EMFILE` where an operation that was dropped still holds the socket, and there is no
        /// descriptor left for another one of it.
        ///
        /// # Panics
        ///
        /// In a simulation, whose sockets std has no way to.
        pub fn into_std(self) -> io::Result<$std> {
            self.0.into_owned().map(<$std>::from)
        }

        /// The error that the socket has met and no call has returned yet.
        ///
        /// # Errors
        ///
        /// As for any option.
        pub fn take_error(&self) -> io::Result<Option<io::Error>> {
            self.0.take_error()
        }

        /// Waits until what `interest` names is there. It may turn out to be too early all the
        /// same.
        ///
        /// # Errors
        ///
        /// If the runtime has shut down.
        ///
        /// # Cancel safety
        ///
        /// Safe: nothing is taken and nothing is sent.
        ///
        /// # Kernel
        ///
        /// `IORING_OP_POLL_ADD`, since 5.1.
        pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
            self.0.ready(interest).await
        }

        /// Waits until there is a datagram to be received.
        ///
        /// # Errors
        ///
        /// If the runtime has shut down.
        ///
        /// # Cancel safety
        ///
        /// Safe: nothing is taken.
        pub async fn readable(&self) -> io::Result<()> {
            self.0.ready(Interest::READABLE).await.map(drop)
        }

        /// Waits until there is room for a datagram to be sent.
        ///
        /// # Errors
        ///
        /// If the runtime has shut down.
        ///
        /// # Cancel safety
        ///
        /// Safe: nothing is sent.
        pub async fn writable(&self) -> io::Result<()> {
            self.0.ready(Interest::WRITABLE).await.map(drop)
        }

        /// As `readable`, for the one task that polls last.
        ///
        /// # Errors
        ///
        /// If the runtime has shut down.
        pub fn poll_recv_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.0.poll_ready(Direction::In, cx)
        }

        /// As `writable`, for the one task that polls last.
        ///
        /// # Errors
        ///
        /// If the runtime has shut down.
        pub fn poll_send_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.0.poll_ready(Direction::Out, cx)
        }

        /// Lets `f` use the socket by itself.
        ///
        /// # Errors
        ///
        /// Those of `f`.
        pub fn try_io<R>(
            &self,
            _interest: Interest,
            f: impl FnOnce() -> io::Result<R>,
        ) -> io::Result<R> {
            f()
        }

        /// Lets `f` use the socket by itself, again and again while that says `WouldBlock`, and
        /// waits in between.
        ///
        /// # Errors
        ///
        /// Those of `f`, but for `WouldBlock`.
        ///
        /// # Cancel safety
        ///
        /// Safe: `f` is called between two waits, and only a wait can be dropped.
        pub async fn async_io<R>(
            &self,
            interest: Interest,
            f: impl FnMut() -> io::Result<R>,
        ) -> io::Result<R> {
            self.0.io(interest, f).await
        }

        /// Sends a datagram to who the socket is connected to, and gives the count of bytes.
        ///
        /// # Errors
        ///
        /// `EMSGSIZE` for what is too long; `EDESTADDRREQ` for a socket that is not connected;
        /// `ConnectionRefused`.
        ///
        /// # Cancel safety
        ///
        /// Safe: a dropped send has sent nothing.
        ///
        /// # Kernel
        ///
        /// `sendto`, and `IORING_OP_POLL_ADD` (since 5.1) where there is no room.
        pub async fn send(&self, buf: &[u8]) -> io::Result<usize> {
            self.0.io(Interest::WRITABLE, || self.send_now(buf, None)).await
        }

        /// As `send`, for the one task that polls last.
        ///
        /// # Errors
        ///
        /// As for `send`.
        pub fn poll_send(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.0.poll_io(Direction::Out, cx, || self.send_now(buf, None))
        }

        /// Sends a datagram, if there is room for it now.
        ///
        /// # Errors
        ///
        /// `WouldBlock` if there is no room; and as for `send`.
        pub fn try_send(&self, buf: &[u8]) -> io::Result<usize> {
            self.send_now(buf, None)
        }

        /// Waits for a datagram, and gives the count of bytes. What has no room is cut off.
        ///
        /// # Errors
        ///
        /// `ConnectionRefused` for an earlier datagram that no socket took.
        ///
        /// # Cancel safety
        ///
        /// Safe: a dropped receive has taken no datagram.
        ///
        /// # Kernel
        ///
        /// `recvfrom`, and `IORING_OP_POLL_ADD` (since 5.1) where nothing is there.
        pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
            self.0.io(Interest::READABLE, || self.try_recv(buf)).await
        }

        /// As `recv`, for the one task that polls last.
        ///
        /// # Errors
        ///
        /// As for `recv`.
        pub fn poll_recv(
            &self,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let room = buf.initialize_unfilled();
            let attempt = || self.try_recv(room);
            let outcome = ready!(self.0.poll_io(Direction::In, cx, attempt));
            Poll::Ready(outcome.map(|count| buf.advance(count)))
        }

        /// Takes a datagram, if there is one now.
        ///
        /// # Errors
        ///
        /// `WouldBlock` if there is none; and as for `recv`.
        pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
            self.receive_now(buf, 0).map(|(count, _)| count)
        }

        /// As `recv`, into the room that a buffer has, which grows by the count of bytes.
        ///
        /// # Errors
        ///
        /// As for `recv`.
        ///
        /// # Cancel safety
        ///
        /// Safe: a dropped receive has taken no datagram.
        pub async fn recv_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
            self.0.io(Interest::READABLE, || self.try_recv_buf(buf)).await
        }

        /// As `try_recv`, into the room that a buffer has, which grows by the count of bytes.
        ///
        /// # Errors
        ///
        /// As for `try_recv`.
        pub fn try_recv_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
            read_into(buf, |room| self.receive_now(room, 0)).map(|(count, _)| count)
        }

        /// As `recv`, and says who sent it.
        ///
        /// # Errors
        ///
        /// As for `recv`.
        ///
        /// # Cancel safety
        ///
        /// Safe: a dropped receive has taken no datagram.
        pub async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, $address)> {
            self.0.io(Interest::READABLE, || self.try_recv_from(buf)).await
        }

        /// As `recv_from`, for the one task that polls last.
        ///
        /// # Errors
        ///
        /// As for `recv`.
        pub fn poll_recv_from(
            &self,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<$address>> {
            let room = buf.initialize_unfilled();
            let attempt = || self.try_recv_from(room);
            let outcome = ready!(self.0.poll_io(Direction::In, cx, attempt));
            Poll::Ready(outcome.map(|(count, from)| {
                buf.advance(count);
                from
            }))
        }

        /// As `try_recv`, and says who sent it.
        ///
        /// # Errors
        ///
        /// As for `try_recv`.
        pub fn try_recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, $address)> {
            let (count, from) = self.receive_now(buf, 0)?;
            Ok((count, Self::name(&from)?))
        }

        /// As `recv_buf`, and says who sent it.
        ///
        /// # Errors
        ///
        /// As for `recv`.
        ///
        /// # Cancel safety
        ///
        /// Safe: a dropped receive has taken no datagram.
        pub async fn recv_buf_from<B: BufMut>(&self, buf: &mut B) -> io::Result<(usize, $address)> {
            self.0.io(Interest::READABLE, || self.try_recv_buf_from(buf)).await
        }

        /// As `try_recv_buf`, and says who sent it.
        ///
        /// # Errors
        ///
        /// As for `try_recv`.
        pub fn try_recv_buf_from<B: BufMut>(&self, buf: &mut B) -> io::Result<(usize, $address)> {
            let (count, from) = read_into(buf, |room| self.receive_now(room, 0))?;
            Ok((count, Self::name(&from)?))
        }
    };
}

pub(crate) use datagrams;
