//! What is to be started, and how.

#![allow(unsafe_code)] // Passes std's one unsafe function on.

use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command as StdCommand, ExitStatus, Output, Stdio};

use ringhold_runtime::system;

use crate::child::Child;
use crate::pipe::{ChildStderr, ChildStdin, ChildStdout};
use crate::reaping;
use crate::running::Running;

/// A program with its arguments, its environment and its pipes: std's `Command`, whose children are
/// awaited.
///
/// A child starts with no signal blocked and with the default action for `SIGPIPE`, as std's do,
/// whatever this process listens for.
///
/// ```
/// # ringhold_runtime::Builder::new_current_thread().run(async {
/// use ringhold_process::Command;
///
/// let mut command = Command::new("sh");
/// command.args(["-c", "echo $GREETING; exit 3"]).env("GREETING", "hello");
/// let output = command.output().await?;
/// assert_eq!((output.status.code(), &output.stdout[..]), (Some(3), &b"hello\n"[..]));
/// # std::io::Result::Ok(()) })??;
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Command {
    std: StdCommand,
    kill_on_drop: bool,
}

impl Command {
    /// A program without arguments, with this process's environment and working directory. One
    /// whose name has no slash is looked for in `PATH`.
    pub fn new<S: AsRef<OsStr>>(program: S) -> Command {
        Command::from(StdCommand::new(program))
    }

    /// Std's command.
    pub fn as_std(&self) -> &StdCommand {
        &self.std
    }

    /// Std's command, to be changed.
    pub fn as_std_mut(&mut self) -> &mut StdCommand {
        &mut self.std
    }

    /// Std's command. Whether a child is killed when it is dropped is forgotten.
    pub fn into_std(self) -> StdCommand {
        self.std
    }

    /// Adds an argument.
    pub fn arg<S: AsRef<OsStr>>(&mut self, arg: S) -> &mut Command {
        self.std.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args<I, S>(&mut self, args: I) -> &mut Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.std.args(args);
        self
    }

    /// Adds a variable to the environment, or changes one.
    pub fn env<K, V>(&mut self, key: K, val: V) -> &mut Command
    where
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        self.std.env(key, val);
        self
    }

    /// Adds variables to the environment, or changes them.
    pub fn envs<I, K, V>(&mut self, vars: I) -> &mut Command
    where
        I: IntoIterator<Item = (K, V)>,
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        self.std.envs(vars);
        self
    }

    /// Leaves a variable out of the environment.
    pub fn env_remove<K: AsRef<OsStr>>(&mut self, key: K) -> &mut Command {
        self.std.env_remove(key);
        self
    }

    /// Leaves everything out of the environment that is not added after this.
    pub fn env_clear(&mut self) -> &mut Command {
        self.std.env_clear();
        self
    }

    /// Sets the working directory.
    pub fn current_dir<P: AsRef<Path>>(&mut self, dir: P) -> &mut Command {
        self.std.current_dir(dir);
        self
    }

    /// Sets the standard input; this process's own if nothing is said.
    pub fn stdin<T: Into<Stdio>>(&mut self, cfg: T) -> &mut Command {
        self.std.stdin(cfg);
        self
    }

    /// Sets the standard output; this process's own if nothing is said, but for
    /// [`output`](Command::output).
    pub fn stdout<T: Into<Stdio>>(&mut self, cfg: T) -> &mut Command {
        self.std.stdout(cfg);
        self
    }

    /// Sets the standard error; this process's own if nothing is said, but for
    /// [`output`](Command::output).
    pub fn stderr<T: Into<Stdio>>(&mut self, cfg: T) -> &mut Command {
        self.std.stderr(cfg);
        self
    }

    /// Whether a child is killed when its [`Child`] is dropped; not if nothing is said. One that
    /// is killed so is reaped as any other.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// use ringhold_process::Command;
    ///
    /// let mut command = Command::new("sleep");
    /// let child = command.arg("3600").kill_on_drop(true).spawn()?;
    /// assert!(command.get_kill_on_drop());
    /// drop(child); // it doesn't sleep on
    /// # std::io::Result::Ok(()) })??;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn kill_on_drop(&mut self, kill_on_drop: bool) -> &mut Command {
        self.kill_on_drop = kill_on_drop;
        self
    }

    /// What [`kill_on_drop`](Command::kill_on_drop) was set to.
    pub fn get_kill_on_drop(&self) -> bool {
        self.kill_on_drop
    }

    /// Sets the child's user.
    pub fn uid(&mut self, id: u32) -> &mut Command {
        self.std.uid(id);
        self
    }

    /// Sets the child's group.
    pub fn gid(&mut self, id: u32) -> &mut Command {
        self.std.gid(id);
        self
    }

    /// Sets what the program is told that it is called, `argv[0]`.
    pub fn arg0<S: AsRef<OsStr>>(&mut self, arg: S) -> &mut Command {
        self.std.arg0(arg);
        self
    }

    /// Puts the child into a process group; 0 is one of its own.
    pub fn process_group(&mut self, pgroup: i32) -> &mut Command {
        self.std.process_group(pgroup);
        self
    }

    /// Runs a closure in the child, right before its program. An error ends the child, and is that
    /// of [`spawn`](Command::spawn).
    ///
    /// # Safety
    ///
    /// The closure runs after `fork` in a process that has one of this process's threads, and locks
    /// that the others held. It must do only what a signal handler may do: it must not allocate,
    /// take locks, or use this runtime.
    pub unsafe fn pre_exec<F>(&mut self, f: F) -> &mut Command
    where
        F: FnMut() -> io::Result<()> + Send + Sync + 'static,
    {
        // SAFETY: passed on to the caller. A child uses nothing of the runtime: the rings and
        // registered buffers are not its own (S8), and are closed as its program begins.
        unsafe { self.std.pre_exec(f) };
        self
    }

    /// Starts the program.
    ///
    /// The thread is kept until the child has executed its program: about a millisecond, or longer
    /// where the program has to be read from a slow disk.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such program, `PermissionDenied` if it can't be executed,
    /// `WouldBlock` (`EAGAIN`) if the user or the machine has too many processes, `EMFILE`;
    /// `Unsupported` on a simulated host, which has no processes.
    ///
    /// # Kernel
    ///
    /// `posix_spawn(3)` or `fork(2)` and `execve(2)`, by std.
    pub fn spawn(&mut self) -> io::Result<Child> {
        let system = system();
        system.processes()?;
        reaping::sweep();
        let mut std = self.std.spawn()?;
        let pipes = (std.stdin.take(), std.stdout.take(), std.stderr.take());
        // What fails from here on drops the child, which is seen to.
        let mut child = Child::new(Running::new(std, system), self.kill_on_drop);
        child.stdin = pipes.0.map(ChildStdin::from_std).transpose()?;
        child.stdout = pipes.1.map(ChildStdout::from_std).transpose()?;
        child.stderr = pipes.2.map(ChildStderr::from_std).transpose()?;
        Ok(child)
    }

    /// Starts the program at once, and waits for its end. Pipes to and from it are closed.
    ///
    /// # Errors
    ///
    /// Those of [`spawn`](Command::spawn) and [`Child::wait`].
    ///
    /// # Cancel safety
    ///
    /// Loses progress: the child is dropped with the future, and goes on unless
    /// [`kill_on_drop`](Command::kill_on_drop) was asked for.
    ///
    /// ```
    /// # ringhold_runtime::Builder::new_current_thread().run(async {
    /// use ringhold_process::Command;
    ///
    /// assert!(Command::new("true").status().await?.success());
    /// # std::io::Result::Ok(()) })??;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn status(&mut self) -> impl Future<Output = io::Result<ExitStatus>> + use<> {
        let child = self.spawn();
        async {
            let mut child = child?;
            // A child that fills a pipe without a reader would wait for ever.
            drop((child.stdout.take(), child.stderr.take()));
            child.wait().await
        }
    }

    /// Starts the program at once, reads all that it writes, and waits for its end. Standard output
    /// and standard error are pipes, whatever was said before.
    ///
    /// # Errors
    ///
    /// Those of [`spawn`](Command::spawn) and [`Child::wait_with_output`].
    ///
    /// # Cancel safety
    ///
    /// Loses progress: as for [`status`](Command::status), and what was read is gone.
    pub fn output(&mut self) -> impl Future<Output = io::Result<Output>> + use<> {
        self.std.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.spawn();
        async { child?.wait_with_output().await }
    }
}

impl From<StdCommand> for Command {
    fn from(std: StdCommand) -> Command {
        Command { std, kill_on_drop: false }
    }
}
