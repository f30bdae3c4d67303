//! A child, from its start to its status.

use std::future::poll_fn;
use std::io;
use std::process::{ExitStatus, Output};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::pipe::{ChildStderr, ChildStdin, ChildStdout};
use crate::reaping;
use crate::running::Running;

/// A child process that was started by [`Command::spawn`](crate::Command::spawn).
///
/// Dropped, the child goes on, as in std and in tokio, unless
/// [`kill_on_drop`](crate::Command::kill_on_drop) was asked for. Either way it leaves no zombie: a
/// task of the runtime waits for its end. Where the runtime ends before the child, the next child
/// that is started or dropped in the process, in whichever runtime, has the older ones looked at.
#[derive(Debug)]
pub struct Child {
    /// What is written here is the child's standard input, if it was asked for
    /// ([`Command::stdin`](crate::Command::stdin)).
    pub stdin: Option<ChildStdin>,
    /// What the child writes to its standard output.
    pub stdout: Option<ChildStdout>,
    /// What the child writes to its standard error.
    pub stderr: Option<ChildStderr>,
    life: Life,
}

#[derive(Debug)]
enum Life {
    Running(Handle),
    Ended(ExitStatus),
}

/// A child that is seen to when its handle is dropped.
#[derive(Debug)]
struct Handle {
    /// There until it is dropped.
    running: Option<Running>,
    kill_on_drop: bool,
}

impl Handle {
    fn running(&mut self) -> &mut Running {
        self.running.as_mut().expect("a child is seen to once")
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        if self.kill_on_drop {
            // One that has ended needs no killing.
            let _ = running.kill();
        }
        reaping::reap(running);
    }
}

impl Child {
    pub(crate) fn new(running: Running, kill_on_drop: bool) -> Child {
        let life = Life::Running(Handle { running: Some(running), kill_on_drop });
        Child { stdin: None, stdout: None, stderr: None, life }
    }

    /// The process's number, or `None` once its status was taken: from then on the number may be
    /// another process's.
    pub fn id(&self) -> Option<u32> {
        match &self.life {
            Life::Running(handle) => handle.running.as_ref().map(Running::id),
            Life::Ended(_) => None,
        }
    }

    /// Sends the child `SIGKILL`, and doesn't wait for its end.
    ///
    /// # Errors
    ///
    /// What `kill(2)` says. A child that has ended is no error.
    pub fn start_kill(&mut self) -> io::Result<()> {
        match &mut self.life {
            Life::Running(handle) => handle.running().kill(),
            Life::Ended(_) => Ok(()),
        }
    }

    /// Kills the child, and waits for its end.
    ///
    /// # Errors
    ///
    /// Those of [`start_kill`](Child::start_kill) and [`wait`](Child::wait).
    ///
    /// # Cancel safety
    ///
    /// Safe: the child is killed with the first poll, and its status is kept.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// use ringhold_process::Command;
    ///
    /// let mut child = Command::new("sleep").arg("3600").spawn()?;
    /// child.kill().await?;
    /// assert_eq!(child.id(), None);
    /// # std::io::Result::Ok(()) })??;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn kill(&mut self) -> io::Result<()> {
        self.start_kill()?;
        self.wait().await.map(drop)
    }

    /// Waits for the child's end. Its standard input is closed first, if it is still in
    /// [`stdin`](Child::stdin), so that a child that reads it to its end comes to an end.
    ///
    /// # Errors
    ///
    /// `EMFILE` where the process has no descriptor left to wait by; the child is still there then.
    /// `ECHILD` if others took its status, or if the process ignores `SIGCHLD`.
    ///
    /// # Cancel safety
    ///
    /// Safe: the status is there for the next call. The standard input is closed with the first
    /// poll.
    ///
    /// # Kernel
    ///
    /// `IORING_OP_POLL_ADD` on a descriptor of the process (`pidfd_open(2)`), and `waitpid(2)` with
    /// `WNOHANG`.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        poll_fn(|cx| self.poll_wait(cx)).await
    }

    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<ExitStatus>> {
        match &mut self.life {
            Life::Ended(status) => Poll::Ready(Ok(*status)),
            Life::Running(handle) => {
                let status = ready!(handle.running().poll_wait(cx))?;
                self.life = Life::Ended(status);
                Poll::Ready(Ok(status))
            }
        }
    }

    /// The status, if the child has ended. Its standard input is left open.
    ///
    /// # Errors
    ///
    /// `ECHILD` as for [`wait`](Child::wait).
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        match &mut self.life {
            Life::Ended(status) => Ok(Some(*status)),
            Life::Running(handle) => {
                let status = handle.running().try_wait()?;
                if let Some(status) = status {
                    self.life = Life::Ended(status);
                }
                Ok(status)
            }
        }
    }

    /// Closes the child's standard input, reads all that it writes, and waits for its end.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Child::wait) and of reading.
    ///
    /// # Cancel safety
    ///
    /// Not safe: the child is dropped with the future, and with it what was read. Read its pipes
    /// and [`wait`](Child::wait) for it one after the other where that matters.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// use std::process::Stdio;
    ///
    /// use ringhold_process::Command;
    /// use tokio::io::AsyncWriteExt;
    ///
    /// let mut command = Command::new("cat");
    /// let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    /// child.stdin.as_mut().unwrap().write_all(b"hello").await?;
    /// assert_eq!(child.wait_with_output().await?.stdout, b"hello");
    /// # std::io::Result::Ok(()) })??;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn wait_with_output(mut self) -> io::Result<Output> {
        let (mut out, mut err) = (self.stdout.take(), self.stderr.take());
        // Both are read at once: a child that fills one of them would wait for ever.
        let (status, stdout, stderr) =
            tokio::try_join!(self.wait(), read_all(&mut out), read_all(&mut err))?;
        Ok(Output { status, stdout, stderr })
    }
}

async fn read_all(pipe: &mut Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}
