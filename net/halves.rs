//! The two halves of a stream, borrowed and owned, written once for each kind of streams.

/// The halves of a stream, borrowed and owned.
macro_rules! halves {
    ($stream:ident, $address:ty) => {
        /// The half of a borrowed stream that is read.
        #[derive(Debug)]
        pub struct ReadHalf<'a>(pub(super) &'a $stream);

        /// The half of a borrowed stream that is written. Shutting it down ends the outgoing
        /// direction.
        #[derive(Debug)]
        pub struct WriteHalf<'a>(pub(super) &'a $stream);

        /// The half of a stream that is read, on its own.
        #[derive(Debug)]
        pub struct OwnedReadHalf(Arc<$stream>);

        /// The half of a stream that is written, on its own. Dropping it ends the outgoing
        /// direction, unless it is forgotten by [`forget`](OwnedWriteHalf::forget).
        #[derive(Debug)]
        pub struct OwnedWriteHalf {
            stream: Arc<$stream>,
            shuts_down: bool,
        }

        /// Two halves that are not of the same stream. It gives them back.
        #[derive(Debug)]
        pub struct ReuniteError(pub OwnedReadHalf, pub OwnedWriteHalf);

        impl fmt::Display for ReuniteError {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tried to reunite halves that are not from the same socket")
            }
        }

        impl std::error::Error for ReuniteError {}

        impl ReadHalf<'_> {
            fn stream(&self) -> &Stream {
                self.0.stream()
            }

            asking!($address);
            reading!();
        }

        impl WriteHalf<'_> {
            fn stream(&self) -> &Stream {
                self.0.stream()
            }

            asking!($address);
            writing!();
        }

        impl OwnedReadHalf {
            fn stream(&self) -> &Stream {
                self.0.stream()
            }

            /// Puts the two halves together again.
            ///
            /// # Errors
            ///
            /// Returns both if they are not of the same stream.
            #[allow(clippy::result_large_err, reason = "the error is the halves, as in tokio")]
            pub fn reunite(self, other: OwnedWriteHalf) -> Result<$stream, ReuniteError> {
                if !Arc::ptr_eq(&self.0, &other.stream) {
                    return Err(ReuniteError(self, other));
                }
                other.forget();
                let stream = Arc::try_unwrap(self.0);
                Ok(stream.expect("a stream has two halves, and one of them was forgotten"))
            }

            asking!($address);
            reading!();
        }

        impl OwnedWriteHalf {
            fn stream(&self) -> &Stream {
                self.stream.stream()
            }

            /// Puts the two halves together again.
            ///
            /// # Errors
            ///
            /// Returns both if they are not of the same stream.
            #[allow(clippy::result_large_err, reason = "the error is the halves, as in tokio")]
            pub fn reunite(self, other: OwnedReadHalf) -> Result<$stream, ReuniteError> {
                other.reunite(self)
            }

            /// Drops this half without ending the outgoing direction, which then ends with the
            /// other half.
            pub fn forget(mut self) {
                self.shuts_down = false;
            }

            asking!($address);
            writing!();
        }

        impl Drop for OwnedWriteHalf {
            fn drop(&mut self) {
                if self.shuts_down {
                    // A connection that is gone needs no end, and nobody waits for one.
                    let _ = self.stream().shutdown(Shutdown::Write);
                }
            }
        }

        impl $stream {
            /// The two halves of a borrowed stream.
            pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
                let stream = &*self;
                (ReadHalf(stream), WriteHalf(stream))
            }

            /// The two halves of the stream, which can be moved to different tasks and shards.
            pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
                let stream = Arc::new(self);
                let half = OwnedWriteHalf { stream: stream.clone(), shuts_down: true };
                (OwnedReadHalf(stream), half)
            }
        }

        impl AsRef<$stream> for ReadHalf<'_> {
            fn as_ref(&self) -> &$stream {
                self.0
            }
        }

        impl AsRef<$stream> for WriteHalf<'_> {
            fn as_ref(&self) -> &$stream {
                self.0
            }
        }

        impl AsRef<$stream> for OwnedReadHalf {
            fn as_ref(&self) -> &$stream {
                &self.0
            }
        }

        impl AsRef<$stream> for OwnedWriteHalf {
            fn as_ref(&self) -> &$stream {
                &self.stream
            }
        }

        async_read!(ReadHalf<'_>);
        async_read!(OwnedReadHalf);
        async_write!(WriteHalf<'_>, |_| ());
        async_write!(OwnedWriteHalf, |half| half.shuts_down = false);
    };
}

pub(crate) use halves;
