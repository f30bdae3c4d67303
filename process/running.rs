//! A child whose status was not taken yet.

use std::fmt;
use std::io;
use std::process::{Child as StdChild, ExitStatus};
use std::sync::Arc;
use std::task::{Context, Poll};

use ringhold_runtime::{Fd, System, Waiting};

/// A child whose status was not taken yet, and what waits for its end.
pub(crate) struct Running {
    child: StdChild,
    /// Made at the first wait.
    watch: Option<Watch>,
    system: Arc<dyn System>,
}

struct Watch {
    // Dropped before the descriptor, which it holds as well.
    waiting: Waiting,
    process: Fd,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl Running {
    pub(crate) fn new(child: StdChild, system: Arc<dyn System>) -> Running {
        Running { child, watch: None, system }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()
    }

    /// Takes the status if the child has ended.
    pub(crate) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits for the child's end, and takes its status.
    pub(crate) fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<ExitStatus>> {
        let Running { child, watch, system } = self;
        let watch = match watch {
            Some(watch) => watch,
            None => match child.try_wait() {
                Ok(Some(status)) => return Poll::Ready(Ok(status)),
                Ok(None) => {
                    let number = system.processes()?.watch(child.id())?;
                    let process = Fd::new(number, system.clone());
                    watch.insert(Watch { waiting: Waiting::default(), process })
                }
                Err(error) => return Poll::Ready(Err(error)),
            },
        };
        watch.waiting.poll_io(&watch.process, libc::POLLIN as u32, cx, || match child.try_wait() {
            Ok(None) => Err(io::ErrorKind::WouldBlock.into()),
            Ok(Some(status)) => Ok(status),
            Err(error) => Err(error),
        })
    }
}
