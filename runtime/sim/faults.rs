//! What may go wrong, by name.

use crate::Choose;
use crate::disk::{FaultKind, MediaFaults};

/// A fault that a simulation can inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Fault {
    /// A read or a write moves fewer bytes than it was asked to.
    ShortTransfer,
    /// `io_uring_enter` fails with `EINTR`, before or after it took some of the entries.
    EnterInterrupted,
    /// `io_uring_enter` fails with `EAGAIN`, likewise.
    EnterAgain,
    /// `io_uring_enter` fails with `EBUSY`, likewise.
    EnterBusy,
    /// An operation takes a thousand times as long as it would.
    Slow,
    /// A cancel comes too late: the operation runs to its end. Otherwise cancels win.
    CancelLate,
    /// A read fails with `EIO`.
    ReadError,
    /// A write fails with `EIO`.
    WriteError,
    /// A sync fails with `EIO`: what it was to make durable never will be.
    SyncError,
    /// A write or an allocation fails with `ENOSPC`.
    NoSpace,
    /// A write that was made durable isn't on the medium.
    LostWrite,
    /// A write that was made durable is on the medium elsewhere.
    MisdirectedWrite,
    /// A bit on the medium turns over.
    BitFlip,
    /// An operation fails with `ENOMEM`, as one does for which the kernel finds no memory.
    NoMemory,
    /// A connection is reset, at an operation on one of its ends.
    ConnectionReset,
    /// An operation that completes more than once ends, although it could go on.
    MultishotEnds,
    /// `io_uring_enter` lets one completion arrive at the most; the others wait for the next.
    CompletionsHeldBack,
}

impl Fault {
    /// Every fault there is.
    pub const ALL: [Fault; 17] = [
        Fault::ShortTransfer,
        Fault::EnterInterrupted,
        Fault::EnterAgain,
        Fault::EnterBusy,
        Fault::Slow,
        Fault::CancelLate,
        Fault::ReadError,
        Fault::WriteError,
        Fault::SyncError,
        Fault::NoSpace,
        Fault::LostWrite,
        Fault::MisdirectedWrite,
        Fault::BitFlip,
        Fault::NoMemory,
        Fault::ConnectionReset,
        Fault::MultishotEnds,
        Fault::CompletionsHeldBack,
    ];

    /// What the disk calls it, if it is the disk's own matter.
    pub(crate) fn of_media(self) -> Option<FaultKind> {
        match self {
            Fault::ReadError => Some(FaultKind::Read),
            Fault::WriteError => Some(FaultKind::Write),
            Fault::SyncError => Some(FaultKind::Sync),
            Fault::LostWrite => Some(FaultKind::LostWrite),
            Fault::MisdirectedWrite => Some(FaultKind::MisdirectedWrite),
            Fault::BitFlip => Some(FaultKind::BitFlip),
            _ => None,
        }
    }

    /// What went wrong with the disk.
    pub(crate) fn from_media(kind: FaultKind) -> Fault {
        match kind {
            FaultKind::Read => Fault::ReadError,
            FaultKind::Write => Fault::WriteError,
            FaultKind::Sync => Fault::SyncError,
            FaultKind::LostWrite => Fault::LostWrite,
            FaultKind::MisdirectedWrite => Fault::MisdirectedWrite,
            FaultKind::BitFlip => Fault::BitFlip,
        }
    }
}

/// How often each fault strikes on a host.
#[derive(Clone, Debug)]
pub struct Faults {
    probability: [f64; Fault::ALL.len()],
    /// Faults that strike at the next occasion, however improbable.
    due: [u32; Fault::ALL.len()],
}

impl Default for Faults {
    fn default() -> Faults {
        Faults::none()
    }
}

impl Faults {
    /// Nothing goes wrong, but for half of the cancels, which come too late.
    ///
    /// ```
    /// use ringhold_sim::{Fault, Faults};
    ///
    /// assert_eq!(Faults::none().probability(Fault::ShortTransfer), 0.0);
    /// assert_eq!(Faults::none().probability(Fault::CancelLate), 0.5);
    /// ```
    pub fn none() -> Faults {
        let faults = Faults { probability: [0.0; Fault::ALL.len()], due: [0; Fault::ALL.len()] };
        faults.with(Fault::CancelLate, 0.5)
    }

    /// What a healthy machine does to a correct program: short transfers, interrupted and refused
    /// enters, slow operations, late cancels, receives that stop. No data is lost by any of it.
    ///
    /// ```
    /// use ringhold_sim::{Fault, Faults};
    ///
    /// assert!(Faults::harmless().probability(Fault::ShortTransfer) > 0.0);
    /// assert_eq!(Faults::harmless().probability(Fault::SyncError), 0.0);
    /// ```
    pub fn harmless() -> Faults {
        Faults::none()
            .with(Fault::ShortTransfer, 0.05)
            .with(Fault::EnterInterrupted, 0.05)
            .with(Fault::EnterAgain, 0.02)
            .with(Fault::EnterBusy, 0.02)
            .with(Fault::Slow, 0.01)
            .with(Fault::MultishotEnds, 0.05)
    }

    /// The same, with this fault's probability at each occasion, from 0 to 1.
    ///
    /// # Panics
    ///
    /// If it is no probability.
    ///
    /// ```
    /// use ringhold_sim::{Fault, Faults};
    ///
    /// let faults = Faults::harmless().with(Fault::SyncError, 0.01).with(Fault::NoSpace, 0.01);
    /// assert_eq!(faults.probability(Fault::SyncError), 0.01);
    /// ```
    #[must_use]
    pub fn with(mut self, fault: Fault, probability: f64) -> Faults {
        self.set(fault, probability);
        self
    }

    /// Changes a fault's probability at each occasion, from 0 to 1.
    ///
    /// # Panics
    ///
    /// If it is no probability.
    ///
    /// ```
    /// use ringhold_sim::{Fault, Faults};
    ///
    /// let mut faults = Faults::none();
    /// for fault in [Fault::ReadError, Fault::WriteError] {
    ///     faults.set(fault, 0.1);
    /// }
    /// assert_eq!(faults.probability(Fault::ReadError), 0.1);
    /// ```
    pub fn set(&mut self, fault: Fault, probability: f64) {
        assert!((0.0..=1.0).contains(&probability), "{probability} is no probability");
        self.probability[fault as usize] = probability;
    }

    /// A fault's probability at each occasion.
    ///
    /// ```
    /// use ringhold_sim::{Fault, Faults};
    ///
    /// let none = Faults::none();
    /// let always = Fault::ALL.into_iter().filter(|fault| none.probability(*fault) > 0.0);
    /// assert_eq!(always.collect::<Vec<_>>(), [Fault::CancelLate]);
    /// ```
    pub fn probability(&self, fault: Fault) -> f64 {
        self.probability[fault as usize]
    }

    /// What of this is the disk's own matter.
    pub(crate) fn media(&self) -> MediaFaults {
        MediaFaults {
            read_error: self.probability(Fault::ReadError),
            write_error: self.probability(Fault::WriteError),
            sync_error: self.probability(Fault::SyncError),
            bit_flip: self.probability(Fault::BitFlip),
            misdirected_write: self.probability(Fault::MisdirectedWrite),
            lost_write: self.probability(Fault::LostWrite),
        }
    }

    /// Lets a fault strike at its next occasion.
    pub(crate) fn make_due(&mut self, fault: Fault) {
        self.due[fault as usize] += 1;
    }

    /// Whether the fault strikes on this occasion.
    pub(crate) fn strikes(&mut self, fault: Fault, choose: &mut dyn Choose) -> bool {
        let due = &mut self.due[fault as usize];
        if *due > 0 {
            *due -= 1;
            return true;
        }
        let probability = self.probability[fault as usize];
        probability > 0.0 && choose.chance(probability)
    }
}
