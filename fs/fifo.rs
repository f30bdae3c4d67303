//! Opening a FIFO, which waits for the other end as `open(2)` does.

use std::ffi::CString;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Poll, ready};

use ringhold_runtime::ops::{Open, OpenBeneath, OpenWaiting, Place, PollReady, Statx};
use ringhold_runtime::{Fd, Op};

use crate::stat::Stat;

/// What the kernel says of a system call that a signal has interrupted, where it hands it on.
const ERESTARTSYS: i32 = 512;

/// How a file is opened.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub(crate) place: Place,
    pub(crate) flags: i32,
    pub(crate) mode: u32,
    /// Whether the path can't lead out of the place's directory.
    pub(crate) beneath: bool,
}

impl Opening {
    pub(crate) async fn open(self) -> io::Result<Fd> {
        match self.attempt(false).await {
            // Of a FIFO: it has no reader yet.
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) && self.may_wait() => {
                let stat = Op::new(Statx::path(self.place.clone(), true)).await.map(Stat::new);
                if stat.is_ok_and(|stat| is_fifo(stat.mode())) {
                    self.attempt(true).await
                } else {
                    Err(error)
                }
            }
            Ok(opened) if self.is_unpaired(&opened) => self.wait_for_writer(opened).await,
            outcome => outcome,
        }
    }

    /// Whether who opens it wants to wait for another end.
    fn may_wait(&self) -> bool {
        self.flags & (libc::O_NONBLOCK | libc::O_PATH) == 0
    }

    /// Whether it may be a FIFO's end for reading that no writer has opened yet.
    fn is_unpaired(&self, opened: &Fd) -> bool {
        // These are opened where it may wait.
        let elsewhere = libc::O_CREAT | libc::O_TRUNC;
        if self.flags & (libc::O_ACCMODE | elsewhere) != libc::O_RDONLY || !self.may_wait() {
            return false;
        }
        let files = opened.system().open_files();
        let position = files.seek(opened.descriptor(), 0, libc::SEEK_CUR);
        // Almost every file has a position.
        position.is_err()
            && files.describe(opened.descriptor()).is_ok_and(|known| is_fifo(known.mode))
    }

    async fn attempt(&self, waits: bool) -> io::Result<Fd> {
        loop {
            let Opening { place, flags, mode, beneath } = self.clone();
            let outcome = match (beneath, waits) {
                (false, false) => Op::new(Open::new(place, flags, mode)).await,
                (false, true) => Op::new(OpenWaiting(Open::new(place, flags, mode))).await,
                (true, false) => Op::new(OpenBeneath::new(place, flags, mode)).await,
                (true, true) => Op::new(OpenWaiting(OpenBeneath::new(place, flags, mode))).await,
            };
            match outcome.as_ref().map_err(io::Error::raw_os_error) {
                Err(Some(libc::EINTR | ERESTARTSYS)) if waits => {}
                _ => return outcome,
            }
        }
    }

    /// The end for reading is open, so every writer that comes now finds it. One that is there lets
    /// another open end at once; one that came and went has left its bytes or a hang-up.
    async fn wait_for_writer(&self, opened: Fd) -> io::Result<Fd> {
        {
            let mut told = Op::new(PollReady::new(opened.clone(), libc::POLLIN as u32));
            let mut again = pin!(self.open_again(&opened));
            poll_fn(|cx| {
                if Pin::new(&mut told).poll(cx).is_ready() {
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(ready!(again.as_mut().poll(cx)).map(drop))
            })
            .await?;
        }
        Ok(opened)
    }

    /// Opens the same FIFO once more, and waits. Its path may lead elsewhere by now.
    async fn open_again(&self, opened: &Fd) -> io::Result<Fd> {
        let path = format!("/proc/self/fd/{}", opened.descriptor());
        let place = Place::new(CString::new(path).expect("a number has no zero byte"));
        let flags = self.flags & !libc::O_NOFOLLOW;
        let by_number = Opening { place, flags, mode: self.mode, beneath: false };
        match by_number.attempt(true).await {
            // There is no /proc here.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.attempt(true).await,
            outcome => outcome,
        }
    }
}

fn is_fifo(mode: u32) -> bool {
    mode & libc::S_IFMT == libc::S_IFIFO
}
