//! Child processes: what they write and read, how they end, and that nothing of them is left.

#![allow(unsafe_code)] // Sizes of pipes, and a closure in a child.

mod common;
mod dice;

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use common::{count, isolated, limits, proc};
use dice::Dice;
use futures::poll;
use ringhold_sim::{HostConfig, Simulation};
use runtime::io::{AsyncReadExt, AsyncWriteExt};
use runtime::process::{Child, ChildStdin, ChildStdout, Command};
use runtime::signal::unix::{SignalKind, signal};
use runtime::sync::oneshot;
use runtime::task::{spawn, spawn_on};
use runtime::time::{sleep, timeout};
use runtime::{Builder, Runtime};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// How long is too long for a child that has nothing to do.
const PATIENCE: Duration = Duration::from_secs(20);

fn two_shards() -> Runtime {
    Builder::new_multi_thread().shards(2).pool_limit(64 * 1024).build().unwrap()
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

fn piped(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Whether this process has a child at all, running or ended. None is reaped by asking.
fn has_children() -> usize {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::All, options) {
        Ok(_) => 1,
        Err(error) => {
            assert_eq!(error, rustix::io::Errno::CHILD);
            0
        }
    }
}

#[track_caller]
fn no_child_is_left() {
    proc::becomes("whether there is a child", 0, Duration::from_secs(10), has_children);
}

/// Makes a pipe as small as it can be.
fn shrink(pipe: impl AsFd) {
    const PAGE: i32 = 4096;
    let number = pipe.as_fd().as_raw_fd();
    // SAFETY: it reads and writes no memory.
    assert_eq!(unsafe { libc::fcntl(number, libc::F_SETPIPE_SZ, PAGE) }, PAGE);
}

/// Bytes that tell where they stand.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// A `cat`, with the pipes to and from it.
fn cat() -> (Child, ChildStdin, ChildStdout) {
    let mut child = piped("cat").spawn().unwrap();
    let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    shrink(&stdin);
    shrink(&stdout);
    (child, stdin, stdout)
}

#[test]
fn output_is_all_that_a_child_writes_to_both() {
    two_shards().block_on(async {
        let script = "seq 1 300000; seq 300000 -1 1 >&2; exit 4";
        let output = timeout(PATIENCE, shell(script).output()).await.unwrap().unwrap();
        let up: String = (1..=300_000).map(|number| format!("{number}\n")).collect();
        let down: String = (1..=300_000).rev().map(|number| format!("{number}\n")).collect();
        assert_eq!(output.status.code(), Some(4));
        assert!(output.stdout == up.as_bytes(), "{} bytes", output.stdout.len());
        assert!(output.stderr == down.as_bytes(), "{} bytes", output.stderr.len());
    });
}

#[test]
fn megabytes_go_through_small_pipes_both_ways() {
    two_shards().block_on(async {
        let (mut child, mut stdin, mut stdout) = cat();
        let sent = pattern(16 << 20);
        let expected = sent.clone();
        let writing = spawn(async move { stdin.write_all(&sent).await });
        let mut received = Vec::new();
        stdout.read_to_end(&mut received).await.unwrap();
        assert!(received == expected, "{} bytes", received.len());
        writing.await.unwrap().unwrap();
        assert!(child.wait().await.unwrap().success());
    });
}

/// How many reads are dropped before anything is written, and writes before anything is read.
const DROPPED: u32 = 20;

#[test]
fn no_byte_is_lost_by_reads_and_writes_of_pipes_that_are_dropped() {
    let mut dice = Dice::from_environment();
    two_shards().block_on(async {
        let (mut child, mut stdin, mut stdout) = cat();
        let sent = pattern(count("RINGHOLD_PIPE_KIB", 512) as usize * 1024);
        let expected = sent.clone();
        let mut of_writer = dice.split();
        for _ in 0..DROPPED {
            assert!(poll!(pin!(stdout.read(&mut [0; 8]))).is_pending());
        }
        let (full, is_full) = oneshot::channel();
        let mut full = Some(full);
        let writing = spawn_on(1, move || async move {
            let (mut at, mut dropped) = (0, 0);
            while at < sent.len() {
                let end = sent.len().min(at + 1 + of_writer.below(6000) as usize);
                let patience = Duration::from_micros(of_writer.below(60));
                match timeout(patience, stdin.write(&sent[at..end])).await {
                    Ok(written) => at += written.unwrap(),
                    Err(_) => dropped += 1,
                }
                // Nobody reads before this, and the pipes and the child hold only so much.
                if dropped == DROPPED
                    && let Some(full) = full.take()
                {
                    full.send(()).unwrap();
                }
            }
            dropped
        });
        is_full.await.unwrap();
        let (mut received, mut dropped) = (Vec::new(), DROPPED);
        loop {
            if dice.below(20) == 0 {
                // The writer is held up now and then.
                sleep(Duration::from_micros(dice.below(300))).await;
            }
            let mut bytes = vec![0; 1 + dice.below(6000) as usize];
            let patience = Duration::from_micros(dice.below(60));
            match timeout(patience, stdout.read(&mut bytes)).await {
                Ok(Ok(0)) => break,
                Ok(read) => received.extend_from_slice(&bytes[..read.unwrap()]),
                Err(_) => dropped += 1,
            }
        }
        assert!(received == expected, "{} bytes of {}", received.len(), expected.len());
        let dropped_writes = writing.await.unwrap();
        println!("{dropped} reads and {dropped_writes} writes were dropped");
        assert!(child.wait().await.unwrap().success());
    });
}

#[test]
fn a_thousand_children_leave_no_descriptor_and_no_zombie() {
    isolated("a_thousand_children_leave_no_descriptor_and_no_zombie")
        .deadline(Duration::from_secs(120))
        .run(|| {
            let runtime = two_shards();
            runtime.block_on(async { assert!(shell("true").status().await.unwrap().success()) });
            let before = proc::open_descriptors();
            runtime.block_on(async {
                let starting = |shard| {
                    spawn_on(shard, move || async move {
                        for number in 0..count("RINGHOLD_CHILDREN", 1000) / 2 {
                            a_child(number).await;
                        }
                    })
                };
                let both = [starting(0), starting(1)];
                for task in both {
                    task.await.unwrap();
                }
            });
            no_child_is_left();
            let bound = Duration::from_secs(5);
            proc::becomes("the count of descriptors", before, bound, proc::open_descriptors);
        });
}

/// Starts a child, and ends with it in one of five ways.
async fn a_child(number: u32) {
    match number % 5 {
        0 => assert!(Command::new("true").status().await.unwrap().success()),
        1 => {
            let output = Command::new("echo").arg("hello").output().await.unwrap();
            assert_eq!(output.stdout, b"hello\n");
        }
        // Nobody waits for it. It ends since its input does.
        2 => drop(piped("cat").spawn().unwrap()),
        // A wait that is dropped, and the child with it.
        3 => {
            let mut child = piped("cat").spawn().unwrap();
            // It closes the child's input, so the child may have ended by the time.
            let _ = poll!(pin!(child.wait()));
        }
        _ => {
            let mut child = piped("sleep").arg("3600").kill_on_drop(true).spawn().unwrap();
            timeout(Duration::from_micros(100), child.wait()).await.unwrap_err();
        }
    }
}

#[test]
fn a_child_that_is_killed_on_drop_ends_and_others_go_on() {
    isolated("a_child_that_is_killed_on_drop_ends_and_others_go_on").run(|| {
        let runtime = two_shards();
        runtime.block_on(async {
            let mut child = shell("echo started; sleep 3600")
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .unwrap();
            child.stdout.as_mut().unwrap().read_exact(&mut [0; 8]).await.unwrap();
            drop(child);
            thread::spawn(no_child_is_left).join().unwrap();

            let mut child = shell("read line; echo $line");
            let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
            drop(child);
            stdin.unwrap().write_all(b"hello\n").await.unwrap();
            let mut line = String::new();
            stdout.unwrap().read_to_string(&mut line).await.unwrap();
            assert_eq!(line, "hello\n");
        });
        no_child_is_left();
    });
}

#[test]
fn a_timeout_around_a_wait_loses_no_status() {
    two_shards().block_on(async {
        let mut child = shell("read line; exit 7").stdin(Stdio::piped()).spawn().unwrap();
        // Out of the child's reach, which would close it.
        let mut stdin = child.stdin.take().unwrap();
        let id = child.id();
        for micros in 0..200 {
            let waited = timeout(Duration::from_micros(micros), child.wait()).await;
            waited.expect_err("the child waits for a line");
        }
        assert!(child.try_wait().unwrap().is_none());
        assert!(id.is_some() && child.id() == id);
        stdin.write_all(b"\n").await.unwrap();
        let status = timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
        assert_eq!(status.code(), Some(7));
        // It is known from now on, and the number is nobody's.
        assert_eq!(child.wait().await.unwrap(), status);
        assert_eq!(child.try_wait().unwrap(), Some(status));
        assert_eq!(child.id(), None);
        child.start_kill().unwrap();
        child.kill().await.unwrap();
    });
}

#[test]
fn a_wait_closes_the_childs_input_first() {
    two_shards().block_on(async {
        let mut child = piped("cat").spawn().unwrap();
        assert!(timeout(PATIENCE, child.wait()).await.unwrap().unwrap().success());
        assert!(child.stdin.is_none());
    });
}

#[test]
fn a_killed_child_says_by_which_signal() {
    two_shards().block_on(async {
        let mut child = Command::new("sleep").arg("3600").spawn().unwrap();
        child.start_kill().unwrap();
        let status = timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGKILL));
    });
}

#[test]
fn a_child_is_waited_for_on_another_shard_and_off_any() {
    let runtime = two_shards();
    let mut child = runtime.block_on(async {
        let start = || async {
            let mut child = piped("cat").spawn().unwrap();
            let stdin = child.stdin.take();
            assert!(poll!(pin!(child.wait())).is_pending());
            let mut stdout = child.stdout.take().unwrap();
            assert!(poll!(pin!(stdout.read(&mut [0; 4]))).is_pending());
            (child, stdin.unwrap(), stdout)
        };
        let (child, mut stdin, mut stdout) = spawn_on(0, start).await.unwrap();
        let task = spawn_on(1, move || async move {
            stdin.write_all(b"ping").await.unwrap();
            let mut bytes = [0; 4];
            stdout.read_exact(&mut bytes).await.unwrap();
            assert_eq!(&bytes, b"ping");
            child
        });
        task.await.unwrap()
    });
    // This thread is no shard.
    let status = runtime.handle().block_on(timeout(PATIENCE, child.wait()));
    assert!(status.unwrap().unwrap().success());
}

#[test]
fn a_child_that_outlives_its_runtime_is_reaped_when_another_starts() {
    isolated("a_child_that_outlives_its_runtime_is_reaped_when_another_starts").run(|| {
        let runtime = two_shards();
        let stdin = runtime.block_on(async {
            let mut child = piped("cat").spawn().unwrap();
            child.stdin.take().unwrap()
        });
        let unwatched = runtime.block_on(async { piped("cat").spawn().unwrap() });
        drop(runtime);
        drop((stdin, unwatched));
        assert_eq!(has_children(), 1);
        let begun = Instant::now();
        two_shards().block_on(async {
            // Both end soon; each start looks.
            while has_children() == 1 {
                assert!(Command::new("true").status().await.unwrap().success());
                assert!(begun.elapsed() < PATIENCE);
            }
        });
    });
}

#[test]
fn one_childs_output_is_anothers_input() {
    two_shards().block_on(async {
        let mut first = shell("read line; echo hello");
        let mut first = first.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut pipe = first.stdout.take().unwrap();
        // A read that was dropped in flight doesn't keep the pipe from being given away.
        assert!(poll!(pin!(pipe.read(&mut [0; 8]))).is_pending());
        let between: Stdio = pipe.try_into().unwrap();
        first.stdin.take().unwrap().write_all(b"\n").await.unwrap();
        let second = Command::new("tr").args(["a-z", "A-Z"]).stdin(between).output();
        assert_eq!(second.await.unwrap().stdout, b"HELLO\n");
        assert!(first.wait().await.unwrap().success());

        let (mut child, stdin, stdout) = cat();
        let (stdin, stdout) = (stdin.into_owned_fd().unwrap(), stdout.into_owned_fd().unwrap());
        // Std's ends wait for their bytes.
        for end in [&stdin, &stdout] {
            assert!(!fcntl_getfl(end).unwrap().contains(OFlags::NONBLOCK));
        }
        let reading = thread::spawn(move || io::read_to_string(File::from(stdout)));
        io::Write::write_all(&mut File::from(stdin), b"given away").unwrap();
        assert_eq!(reading.join().unwrap().unwrap(), "given away");
        assert!(child.wait().await.unwrap().success());
    });
}

#[test]
fn children_start_with_no_signal_blocked_and_sigpipe_as_it_is_by_default() {
    two_shards().block_on(async {
        let _listener = signal(SignalKind::user_defined1()).unwrap();
        let output = Command::new("cat").arg("/proc/self/status").output().await.unwrap();
        let status = String::from_utf8(output.stdout).unwrap();
        let own = std::fs::read_to_string("/proc/self/status").unwrap();
        let mask = |status: &str, name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
        };
        let has =
            |status: &str, name: &str, number: i32| mask(status, name) & (1 << (number - 1)) != 0;
        assert_eq!(mask(&status, "SigBlk:"), 0);
        for (name, number) in [("SigIgn:", libc::SIGPIPE), ("SigCgt:", libc::SIGUSR1)] {
            assert!(has(&own, name, number) && !has(&status, name, number), "{name}");
        }
    });
}

#[test]
fn everything_that_is_set_reaches_the_child() {
    two_shards().block_on(async {
        let mut command = Command::new("/bin/sh");
        let script = "echo $0 $A$B$C; pwd; read pid name state parent group rest < /proc/$$/stat; \
                      [ $pid = $group ] && echo leads a group; umask";
        command.args(["-c", script]).arg0("another");
        command.env_clear().env("A", "1").envs([("B", "2"), ("C", "3")]).env_remove("C");
        command.current_dir("/").process_group(0);
        // SAFETY: it is one system call, which reads and writes no memory.
        unsafe {
            command.pre_exec(|| {
                libc::umask(0o123);
                Ok(())
            });
        }
        let output = command.output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text, "another 12\n/\nleads a group\n0123\n");

        let std = std::process::Command::new("echo");
        let mut command = Command::from(std);
        command.as_std_mut().arg("from std");
        assert_eq!(command.as_std().get_args().count(), 1);
        assert_eq!(command.output().await.unwrap().stdout, b"from std\n");
        assert_eq!(command.into_std().get_program(), "echo");
    });
}

#[test]
fn what_goes_wrong_is_told_by_its_kind() {
    two_shards().block_on(async {
        let error = Command::new("/no/such/program").spawn().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let error = Command::new("/etc/passwd").output().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        // One that doesn't read.
        let mut child = piped("true").spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        assert!(child.wait().await.unwrap().success());
        let error = stdin.write_all(&[0; 1 << 20]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_wait_without_a_descriptor_is_an_error_and_can_be_repeated() {
    isolated("a_wait_without_a_descriptor_is_an_error_and_can_be_repeated")
        .limit(limits::Resource::OpenFiles, 64)
        .run(|| {
            two_shards().block_on(async {
                let mut child = piped("cat").spawn().unwrap();
                let stdin = child.stdin.take().unwrap();
                let filled: Vec<File> = std::iter::repeat_with(|| File::open("/dev/null"))
                    .map_while(Result::ok)
                    .collect();
                let error = child.wait().await.unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                drop(filled);
                drop(stdin);
                assert!(timeout(PATIENCE, child.wait()).await.unwrap().unwrap().success());
            });
        });
}

#[test]
fn a_runtime_with_reads_of_pipes_and_waits_in_flight_ends_at_once() {
    let runtime = two_shards();
    let mut kept = Vec::new();
    for shard in 0..2 {
        let stdin = runtime.block_on(spawn_in(&runtime, shard));
        kept.push(stdin);
    }
    let begun = Instant::now();
    drop(runtime);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

/// Lets a task of a shard wait for a child, and another one for what it writes.
async fn spawn_in(runtime: &Runtime, shard: usize) -> ChildStdin {
    let start = move || async move {
        let mut child = piped("cat").spawn().unwrap();
        let (stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        drop(spawn_on(shard, || async move { stdout.read(&mut [0; 8]).await }));
        drop(spawn_on(shard, || async move { child.wait().await }));
        stdin
    };
    runtime.handle().spawn_on(shard, start).await.unwrap()
}

#[test]
fn a_simulated_host_says_that_it_has_no_processes() {
    let mut simulation = Simulation::new(1);
    let host = simulation.host(HostConfig::new("store"));
    simulation.start(host, || async {
        let error = Command::new("true").spawn().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().starts_with("a simulated host has no processes"), "{error}");
        assert_eq!(Command::new("true").status().await.unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(Command::new("true").output().await.unwrap_err().kind(), ErrorKind::Unsupported);
    });
    simulation.run().unwrap();
}

#[test]
fn children_and_their_futures_can_be_sent() {
    fn can_be_sent<T: Send>(value: T) -> T {
        value
    }
    fn can_be_shared<T: Sync>() {}
    can_be_shared::<(Child, ChildStdin, ChildStdout, Command)>();
    two_shards().block_on(async {
        assert!(can_be_sent(Command::new("true").status()).await.unwrap().success());
        assert!(can_be_sent(Command::new("true").output()).await.unwrap().status.success());
        let mut child = can_be_sent(Command::new("true").spawn().unwrap());
        assert!(can_be_sent(child.wait()).await.unwrap().success());
        assert!(can_be_sent(child.wait_with_output()).await.unwrap().status.success());
    });
}
