//! Options as methods, and conversions of descriptors, for whatever has a socket as its first
//! field.

/// Options that are set or not.
macro_rules! flags {
    ($type:ty, $($get:ident, $set:ident, $level:ident, $name:ident, $what:literal;)*) => {
        impl $type {$(
            #[doc = concat!("Whether ", $what, " (`", stringify!($name), "`).")]
            ///
            /// # Errors
            ///
            /// As for any option.
            pub fn $get(&self) -> io::Result<bool> {
                self.0.flag(libc::$level, libc::$name)
            }

            #[doc = concat!("Sets whether ", $what, " (`", stringify!($name), "`).")]
            ///
            /// # Errors
            ///
            /// As for any option.
            pub fn $set(&self, on: bool) -> io::Result<()> {
                self.0.set_flag(libc::$level, libc::$name, on)
            }
        )*}
    };
}

/// Options that are numbers.
macro_rules! numbers {
    ($type:ty, $($get:ident, $set:ident, $level:ident, $name:ident, $what:literal;)*) => {
        impl $type {$(
            #[doc = concat!("The ", $what, " (`", stringify!($name), "`).")]
            ///
            /// # Errors
            ///
            /// As for any option.
            pub fn $get(&self) -> io::Result<u32> {
                self.0.number(libc::$level, libc::$name)
            }

            #[doc = concat!("Sets the ", $what, " (`", stringify!($name), "`).")]
            ///
            /// # Errors
            ///
            /// As for any option.
            pub fn $set(&self, value: u32) -> io::Result<()> {
                self.0.set_number(libc::$level, libc::$name, value)
            }
        )*}
    };
}

/// The descriptor of a socket, as std's traits give it, and conversions from std.
macro_rules! descriptors {
    ($type:ty, $std:ty, $($socket:tt)+) => {
        /// A simulated socket has no descriptor, and panics.
        impl AsFd for $type {
            #[track_caller]
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.$($socket)+.borrow()
            }
        }

        /// A simulated socket has no descriptor, and panics.
        impl AsRawFd for $type {
            #[track_caller]
            fn as_raw_fd(&self) -> RawFd {
                self.as_fd().as_raw_fd()
            }
        }

        impl TryFrom<$std> for $type {
            type Error = io::Error;

            #[track_caller]
            fn try_from(socket: $std) -> io::Result<$type> {
                <$type>::from_std(socket)
            }
        }
    };
}

pub(crate) use {descriptors, flags, numbers};
