//! What tests that drop operations need: seeds, a watchdog, pipes, single polls, buffers whose end
//! is counted.

#![allow(unsafe_code)] // A system call for a pipe, and buffers that count.

use std::fs::File as StdFile;
use std::future::Future;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::pin::Pin;
use std::process::abort;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant, SystemTime};

use ringhold_runtime::Op;
use ringhold_runtime::ops::Nop;
use runtime::buffers::{IoBuf, IoBufMut};
use runtime::fs::File;

use super::Watch;

/// Queues of the usual size, and the smallest ones.
pub const RINGS: [(u32, u32); 2] = [(256, 512), (2, 4)];

/// Numbers from a seed that is printed, and that `RINGHOLD_SEED` sets.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    pub fn from_environment() -> Random {
        let seed = match std::env::var("RINGHOLD_SEED") {
            Ok(text) => text.parse().expect("RINGHOLD_SEED is a number"),
            Err(_) => {
                let since = SystemTime::UNIX_EPOCH.elapsed().expect("it is after 1970");
                since.as_nanos() as u64
            }
        };
        println!("RINGHOLD_SEED={seed}");
        Random(seed | 1)
    }

    /// Numbers for another thread.
    pub fn fork(&mut self) -> Random {
        Random((self.below(usize::MAX) as u64) << 1 | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 16) % bound as u64) as usize
    }
}

/// Ends the process with a message if it is not dropped within `seconds`: a lost wake-up is a
/// failure and no hang.
pub struct Watchdog {
    stopped: Arc<AtomicBool>,
    thread: Thread,
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

pub fn watchdog(what: &'static str, seconds: u64) -> Watchdog {
    let stopped = Arc::new(AtomicBool::new(false));
    let seen = stopped.clone();
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let thread = thread::spawn(move || {
        while !seen.load(Ordering::SeqCst) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                eprintln!("{what} still ran after {seconds} seconds");
                abort();
            }
            thread::park_timeout(left);
        }
    });
    Watchdog { stopped, thread: thread.thread().clone() }
}

/// One test of a file at a time, for those that count what belongs to the whole process.
pub fn alone() -> impl Drop {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pipe of one page, and a third end of it that never blocks.
pub struct Pipe {
    pub reader: File,
    pub writer: File,
    /// Reads and writes past the runtime, without waiting.
    pub meddler: StdFile,
}

pub fn pipe() -> Pipe {
    let (reader, writer) = io::pipe().unwrap();
    // SAFETY: the call reads and writes no memory.
    assert_eq!(unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) }, 4096);
    let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
    let mut options = StdFile::options();
    let meddler = options.read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path).unwrap();
    Pipe {
        reader: File::from(OwnedFd::from(reader)),
        writer: File::from(OwnedFd::from(writer)),
        meddler,
    }
}

impl Pipe {
    /// Fills it up.
    pub fn fill(&mut self, byte: u8) {
        while would_block(self.meddler.write(&[byte; 4096])).is_some() {}
        while would_block(self.meddler.write(&[byte])).is_some() {}
    }

    /// Everything that is in it.
    pub fn drain(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        let mut filled = 0;
        while let Some(count) = would_block(self.meddler.read(&mut bytes[filled..])) {
            filled += count;
            bytes.resize(filled + 4096, 0);
        }
        bytes.truncate(filled);
        bytes
    }
}

fn would_block(result: io::Result<usize>) -> Option<usize> {
    match result {
        Ok(count) => Some(count),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) => panic!("a pipe failed: {error}"),
    }
}

/// Notes that it was woken.
#[derive(Debug, Default)]
pub struct Flag(AtomicBool);

impl Flag {
    pub fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Flag>) {
        self.set();
    }
}

/// Polls once; the waker wakes nobody.
pub fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls once, and notes in the flag when it should be polled again.
pub fn poll_flagged<F: Future + Unpin>(future: &mut F, flag: &Arc<Flag>) -> Poll<F::Output> {
    let waker = Waker::from(flag.clone());
    Pin::new(future).poll(&mut Context::from_waker(&waker))
}

/// Turns the shard until `done` says so.
pub async fn turn_until(done: impl Fn() -> bool) {
    while !done() {
        runtime::task::yield_now().await;
    }
}

/// Turns the shard until the kernel has nothing any more.
pub async fn settle(watch: &Watch) {
    turn_until(|| watch.entries() == 0).await;
}

/// Goes to the kernel and back.
pub async fn nop() -> io::Result<()> {
    Op::new(Nop).await
}

/// A buffer of the heap whose end is counted.
#[derive(Debug)]
pub struct Counted {
    bytes: Box<[u8]>,
    alive: Arc<AtomicUsize>,
}

impl Counted {
    pub fn new(length: usize, byte: u8, alive: &Arc<AtomicUsize>) -> Counted {
        alive.fetch_add(1, Ordering::SeqCst);
        Counted { bytes: vec![byte; length].into_boxed_slice(), alive: alive.clone() }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

// SAFETY: the bytes are on the heap, where they stay as the box moves (S2), and all are initialised
// (S9).
unsafe impl IoBuf for Counted {
    fn stable_ptr(&self) -> *const u8 {
        self.bytes.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.bytes.len()
    }

    fn bytes_total(&self) -> usize {
        self.bytes.len()
    }
}

// SAFETY: as above, and the box is the only way to its bytes (S5).
unsafe impl IoBufMut for Counted {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.bytes.as_mut_ptr()
    }

    unsafe fn set_init(&mut self, _position: usize) {}
}
