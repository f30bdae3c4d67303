//! A runtime: its shards' threads, and how they start and end.

use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use ringhold_buffers::foreign;
use ringhold_kernel::sync::atomic::{AtomicBool, Ordering};
use ringhold_kernel::sync::{Condvar, Mutex, MutexGuard};
use ringhold_kernel::{StartError, threads};

use crate::arenas::Arenas;
use crate::builder::Builder;
use crate::context::{self, HandleScope, ShardScope};
use crate::handle::{EnterGuard, Handle, no_nested_block_on};
use crate::handover::{Giver, Taker, handover};
use crate::inbox::Message;
use crate::plan::Plan;
use crate::registry::Remote;
use crate::shard::Shard;
use crate::task::{JoinHandle, budget, coop};
use crate::telling::tell;

/// A running runtime. Dropping it shuts it down.
///
/// # Shutting down
///
/// The shards take no more tasks, drop those they have, cancel their operations, and wait for the
/// kernel to be done with them, up to the builder's `drain_deadline`. Blocking closures that have
/// not begun are dropped. A drop waits for those that are running, however long they take;
/// [`shutdown_timeout`](Runtime::shutdown_timeout) bounds that wait, and
/// [`shutdown_background`](Runtime::shutdown_background) doesn't wait at all.
#[derive(Debug)]
pub struct Runtime {
    handle: Handle,
    ends: Arc<Ends>,
    ended: bool,
}

/// How the shards' threads end: each counts itself out.
#[derive(Debug, Default)]
struct Ends {
    state: Mutex<EndState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct EndState {
    running: usize,
    leaked: bool,
    drain_deadline: Option<Instant>,
    /// What the last shard closes, if the runtime was not waited for.
    arenas: Option<Arc<Arenas>>,
}

impl Ends {
    fn lock(&self) -> MutexGuard<'_, EndState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the threads that have booted in vain, so that whoever tries again finds their
    /// descriptors and their locked memory given back.
    fn wait(&self) {
        let mut state = self.lock();
        while state.running > 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn count_out(&self, drained: bool) {
        let arenas = {
            let mut state = self.lock();
            state.running -= 1;
            state.leaked |= !drained;
            self.changed.notify_all();
            if state.running == 0 { state.arenas.take() } else { None }
        };
        if let Some(arenas) = arenas {
            arenas.close();
        }
    }
}

/// What a shard's thread is told once all have booted.
struct Start {
    handle: Handle,
}

/// The shards that have threads of their own, and what makes each of them turn.
type Booted = (Vec<Arc<Remote>>, Vec<Giver<Start>>);

/// Starts a thread for each of the shards from `first` on. The threads turn when they get their
/// [`Start`].
fn start_threads(
    builder: &Builder,
    plan: &Plan,
    ends: &Arc<Ends>,
    first: usize,
) -> Result<Booted, StartError> {
    let (mut remotes, mut starts) = (Vec::new(), Vec::new());
    for index in first..builder.shard_count() {
        let (booted, boot) = handover();
        let (start, started) = handover();
        let thread = ShardThread {
            index,
            pin: builder.pin,
            drain_deadline: builder.drain_deadline,
            hooks: builder.hooks.clone(),
            ends: ends.clone(),
        };
        let (system, config) = (builder.system.clone(), builder.kernel);
        let (arenas, clock) = (plan.arenas.clone(), plan.clock.clone());
        ends.lock().running += 1;
        let spawned =
            threads::start(builder.shard_thread_name(), builder.shard_stack_bytes(), move || {
                let shard = system
                    .boot(&config)
                    .map(|kernel| Shard::new(kernel, arenas, clock, system.seed()));
                thread.run(shard, booted, started);
            });
        if let Err(error) = spawned {
            ends.count_out(true);
            return Err(StartError::Thread(error));
        }
        // Dropping `starts` on an error ends the shards that have booted: they never get their
        // start.
        remotes.push(boot.take().expect("a shard says how its boot went")?);
        starts.push(start);
    }
    Ok((remotes, starts))
}

/// A thread that is a shard.
struct ShardThread {
    index: usize,
    pin: bool,
    drain_deadline: Duration,
    hooks: crate::builder::ThreadHooks,
    ends: Arc<Ends>,
}

impl ShardThread {
    fn run(
        self,
        shard: Result<Shard, StartError>,
        booted: Giver<Result<Arc<Remote>, StartError>>,
        started: Taker<Start>,
    ) {
        // A driver that unwinds must not free what the kernel may still write to.
        let bomb = AbortOnUnwind;
        let shard = match shard {
            Ok(shard) => shard,
            Err(error) => {
                self.ends.count_out(true);
                booted.give(Err(error));
                std::mem::forget(bomb);
                return;
            }
        };
        booted.give(Ok(shard.remote().clone()));
        let drained = match started.take() {
            Some(Start { handle }) => self.serve(shard, &handle),
            // Another shard could not boot.
            None => shard.shut_down(Instant::now()),
        };
        std::mem::forget(bomb);
        self.ends.count_out(drained);
    }

    fn serve(&self, shard: Shard, handle: &Handle) -> bool {
        if self.pin
            && let Err(error) = handle.system().pin_this_thread(self.index)
        {
            tell!(warn, %error, shard = self.index, "a shard could not be pinned to its core");
        }
        let _entered = HandleScope::enter(handle);
        self.hooks.on_start();
        coop::within(|| {
            while !shard.is_stopping() {
                shard.turn(&|| false);
            }
        });
        let deadline = self.ends.lock().drain_deadline;
        let deadline = deadline.unwrap_or_else(|| after(self.drain_deadline));
        let drained = shard.shut_down(deadline);
        self.hooks.on_stop();
        drained
    }
}

/// The time when `duration` is over. What is beyond reckoning is thirty years.
fn after(duration: Duration) -> Instant {
    const YEARS: Duration = Duration::from_secs(30 * 365 * 86_400);
    let now = Instant::now();
    now.checked_add(duration).unwrap_or(now + YEARS)
}

/// A panic that gets out of a shard is a bug of the runtime's own; it ends the process.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        foreign::report(format_args!("a shard's driver panicked; the process is aborted"));
        std::process::abort();
    }
}

pub(crate) fn start(builder: &mut Builder) -> Result<Runtime, StartError> {
    let plan = Plan::of(builder);
    let ends = Arc::new(Ends::default());
    let (remotes, starts) = start_threads(builder, &plan, &ends, 0).inspect_err(|_| ends.wait())?;
    let handle = match plan.share(builder, remotes) {
        Ok(handle) => handle,
        Err(error) => {
            // The shards never get their start.
            drop(starts);
            ends.wait();
            return Err(error);
        }
    };
    for start in starts {
        start.give(Start { handle: handle.clone() });
    }
    Ok(Runtime { handle, ends, ended: false })
}

pub(crate) fn run<F: Future>(builder: &mut Builder, future: F) -> Result<F::Output, StartError> {
    if context::with_shard(|shard| shard.is_some()) {
        no_nested_block_on();
    }
    let plan = Plan::of(builder);
    let ends = Arc::new(Ends::default());
    let shard = plan.boot(builder)?;
    let threads = start_threads(builder, &plan, &ends, 1);
    let (remotes, starts) = match threads {
        Ok(threads) => threads,
        Err(error) => {
            shard.shut_down(Instant::now());
            ends.wait();
            return Err(error);
        }
    };
    let mut shards = vec![shard.remote().clone()];
    shards.extend(remotes);
    let handle = match plan.share(builder, shards) {
        Ok(handle) => handle,
        Err(error) => {
            drop(starts);
            shard.shut_down(Instant::now());
            ends.wait();
            return Err(error);
        }
    };
    for start in starts {
        start.give(Start { handle: handle.clone() });
    }
    if builder.pin
        && let Err(error) = handle.system().pin_this_thread(0)
    {
        tell!(warn, %error, shard = 0, "a shard could not be pinned to its core");
    }
    let mut runtime = Runtime { handle: handle.clone(), ends, ended: false };
    let entered = HandleScope::enter(&handle);
    let output = coop::within(|| run_root(&shard, Box::pin(future)));
    let deadline = after(builder.drain_deadline);
    runtime.stop_shards(Some(deadline));
    let bomb = AbortOnUnwind;
    let drained = shard.shut_down(deadline);
    std::mem::forget(bomb);
    runtime.ends.lock().leaked |= !drained;
    runtime.finish(None);
    drop(entered);
    match output {
        Ok(output) => Ok(output),
        Err(payload) => resume_unwind(payload),
    }
}

/// Wakes the future that a shard's own thread runs.
struct Root {
    woken: AtomicBool,
    remote: Arc<Remote>,
}

impl Wake for Root {
    fn wake(self: Arc<Root>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Root>) {
        if !self.woken.swap(true, Ordering::SeqCst) {
            self.remote.wake();
        }
    }
}

/// Turns the shard until `future` is ready, and drops it within the shard. A panic of either is
/// given back: what is in flight has to be drained before it goes on.
pub(crate) fn run_root<F: Future>(
    shard: &Shard,
    mut future: Pin<Box<F>>,
) -> thread::Result<F::Output> {
    let output = poll_root(shard, future.as_mut());
    let _scope = ShardScope::enter(shard);
    let Err(payload) = foreign::run(|| drop(future)) else { return output };
    foreign::discard(output);
    Err(payload)
}

fn poll_root<F: Future>(shard: &Shard, mut future: Pin<&mut F>) -> thread::Result<F::Output> {
    let root = Arc::new(Root { woken: AtomicBool::new(true), remote: shard.remote().clone() });
    let waker = Waker::from(root.clone());
    let mut cx = Context::from_waker(&waker);
    loop {
        if root.woken.load(Ordering::Relaxed) && root.woken.swap(false, Ordering::SeqCst) {
            let _scope = ShardScope::enter(shard);
            budget::refill();
            match foreign::run(|| future.as_mut().poll(&mut cx)) {
                Ok(Poll::Pending) => shard.note_root_poll(root.woken.load(Ordering::Relaxed)),
                Ok(Poll::Ready(output)) => return Ok(output),
                Err(payload) => return Err(payload),
            }
        }
        let bomb = AbortOnUnwind;
        shard.turn(&|| root.woken.load(Ordering::SeqCst));
        std::mem::forget(bomb);
    }
}

impl Runtime {
    /// A runtime with the defaults of [`Builder::new_multi_thread`].
    ///
    /// # Errors
    ///
    /// As [`Builder::build`].
    pub fn new() -> std::io::Result<Runtime> {
        Builder::new_multi_thread().build()
    }

    /// The handle that other threads use the runtime by.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// As [`Handle::spawn`].
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.handle.spawn(future)
    }

    /// As [`Handle::spawn_blocking`].
    #[track_caller]
    pub fn spawn_blocking<F, R>(&self, work: F) -> JoinHandle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        self.handle.spawn_blocking(work)
    }

    /// As [`Handle::block_on`].
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.handle.block_on(future)
    }

    /// As [`Handle::enter`].
    pub fn enter(&self) -> EnterGuard<'_> {
        self.handle.enter()
    }

    /// As [`Handle::metrics`].
    pub fn metrics(&self) -> crate::handle::RuntimeMetrics {
        self.handle.metrics()
    }

    /// Shuts the runtime down, and waits at most `timeout` for its shards and its blocking
    /// closures.
    pub fn shutdown_timeout(mut self, timeout: Duration) {
        let deadline = after(timeout);
        self.stop_shards(Some(deadline));
        self.finish(Some(if self.is_inside() { Instant::now() } else { deadline }));
    }

    /// Shuts the runtime down and doesn't wait for anything: the threads end on their own.
    pub fn shutdown_background(mut self) {
        self.stop_shards(None);
        self.finish(Some(Instant::now()));
    }

    /// Whether this thread is a shard, or keeps one of this runtime's from running.
    fn is_inside(&self) -> bool {
        context::with_shard(|shard| shard.is_some()) || self.handle.stands_aside()
    }

    fn stop_shards(&mut self, drain_deadline: Option<Instant>) {
        {
            let mut state = self.ends.lock();
            state.drain_deadline = drain_deadline.or(state.drain_deadline);
        }
        for shard in &self.handle.shared().shards {
            shard.stop();
            shard.send(Message::Run(Box::new(Shard::stop)));
        }
    }

    /// Waits for the shards and for blocking closures, and gives the pool's memory back.
    fn finish(&mut self, deadline: Option<Instant>) {
        self.ended = true;
        let shared = self.handle.shared().clone();
        // Closures that have not begun are dropped now; whoever waits for one sees it cancelled.
        shared.blocking.shut_down(Some(Instant::now()));
        let mut state = self.ends.lock();
        while state.running > 0 {
            state = match deadline {
                None => self.ends.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let Some(left) = deadline.checked_duration_since(Instant::now()) else { break };
                    let changed = &self.ends.changed;
                    changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        let (running, leaked) = (state.running, state.leaked);
        if running > 0 {
            state.arenas = Some(shared.arenas.clone());
        }
        drop(state);
        shared.pools.close(leaked);
        if running == 0 {
            shared.arenas.close();
        }
        shared.blocking.shut_down(deadline);
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.stop_shards(None);
        // On one of its own shards a runtime can't wait for itself.
        let inside = self.is_inside();
        self.finish(inside.then(Instant::now));
    }
}
