//! The names of the contenders, and which file runs each.

use std::fmt;
use std::io;

use clap::ValueEnum;

use crate::load::Load;
use crate::meter::Sample;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Contender {
    /// The least the machine asks: a hand-written ring loop, or a bare executor.
    Raw,
    /// The same, accepting by system calls that wait by a poll; for an echo that accepts.
    RawPolls,
    /// Ringhold, reading with `read_fixed`.
    Ringhold,
    /// Ringhold, reading with `read_at` into a `Vec<u8>`.
    RingholdAt,
    /// Ringhold, echoing with `read_owned` and `write_all_owned`.
    RingholdOwned,
    /// tokio-uring, reading with fixed buffers.
    TokioUring,
    /// compio.
    Compio,
    /// monoio.
    Monoio,
    /// tokio's current-thread runtime.
    Tokio,
}

impl Contender {
    /// Whether this binary holds the contender.
    pub fn available(self) -> Result<(), String> {
        match self {
            Self::Raw
            | Self::RawPolls
            | Self::Ringhold
            | Self::RingholdAt
            | Self::RingholdOwned => Ok(()),
            _ if cfg!(feature = "peers") => Ok(()),
            _ => Err(format!(
                "{self} is a peer, and this binary was built without `--features peers`"
            )),
        }
    }

    /// Runs the load in this process.
    pub fn run(self, load: &Load) -> io::Result<Sample> {
        match self {
            Self::Raw => crate::raw::run(load),
            Self::RawPolls => Err(io::Error::other(format!("{self} is for an echo"))),
            Self::Ringhold | Self::RingholdOwned => {
                crate::ringhold::run(load, crate::ringhold::Read::Fixed)
            }
            Self::RingholdAt => crate::ringhold::run(load, crate::ringhold::Read::At),
            #[cfg(feature = "peers")]
            Self::TokioUring => crate::tokio_uring::run(load),
            #[cfg(feature = "peers")]
            Self::Compio => crate::compio::run(load),
            #[cfg(feature = "peers")]
            Self::Monoio => crate::monoio::run(load),
            #[cfg(feature = "peers")]
            Self::Tokio => crate::tokio::run(load),
            #[cfg(not(feature = "peers"))]
            peer => Err(io::Error::other(peer.available().unwrap_err())),
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Raw => "raw",
            Self::RawPolls => "raw-polls",
            Self::Ringhold => "ringhold",
            Self::RingholdAt => "ringhold-at",
            Self::RingholdOwned => "ringhold-owned",
            Self::TokioUring => "tokio-uring",
            Self::Compio => "compio",
            Self::Monoio => "monoio",
            Self::Tokio => "tokio",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contender_is_printed_by_the_name_it_is_asked_by() {
        for contender in Contender::value_variants() {
            let asked_by = contender.to_possible_value().unwrap().get_name().to_owned();
            assert_eq!(contender.to_string(), asked_by);
        }
        assert_eq!(Contender::TokioUring.to_string(), "tokio-uring");
    }
}
