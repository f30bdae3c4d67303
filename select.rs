//! `select!`: the documentation, and the step to the macro that does the work.

/// Waits for several futures at once, on the current task, and goes on with the first one whose
/// output matches its pattern; the others are dropped.
///
/// It has the syntax and the meaning of tokio's, and is to be used where `.await` is.
///
/// ```text
/// <pattern> = <future> (, if <condition>)? => <handler>,
/// ```
///
/// There may be up to 64 such branches, and as the last one `else => <expression>`. A handler in
/// braces needs no comma after it; another one does, unless it is the last.
///
/// ```
/// use runtime::sync::mpsc;
/// use runtime::time::{Duration, sleep};
///
/// # #[runtime::main(shards = 1)]
/// # async fn main() {
/// let (sender, mut receiver) = mpsc::channel(4);
/// for number in [1, 2, 3] {
///     sender.send(number).await.unwrap();
/// }
/// drop(sender);
///
/// let mut deadline = std::pin::pin!(sleep(Duration::from_secs(60)));
/// let mut sum = 0;
/// let in_time = loop {
///     runtime::select! {
///         message = receiver.recv() => match message {
///             Some(number) => sum += number,
///             None => break true,
///         },
///         () = &mut deadline => break false, // borrowed, so it goes on in the next round
///     }
/// };
/// assert!(in_time);
/// assert_eq!(sum, 6);
/// # }
/// ```
///
/// # What happens
///
/// 1. The conditions are evaluated, from top to bottom. One that is false disables its branch.
/// 2. The future expressions are evaluated, from top to bottom, also those of disabled branches,
///    whose futures are then never polled. Anything that is [`IntoFuture`] will do; it need not be
///    `Unpin`, unless it is a `&mut` to a future that stays.
/// 3. The futures are polled, each time the task is woken: all of them once, unless one is ready
///    with an output that matches its pattern. An output that does not match is dropped, and
///    disables its branch.
/// 4. All futures are dropped, and then the handler runs. So it may use what the futures borrowed,
///    and it may `.await`, `return`, `break`, `continue` and use `?`.
/// 5. If every branch is disabled, `else` runs.
///
/// ```
/// use runtime::sync::mpsc;
///
/// # #[runtime::main(shards = 1)]
/// # async fn main() {
/// let (sender, mut even) = mpsc::unbounded_channel();
/// [2, 4].map(|number| sender.send(number).unwrap());
/// let (sender, mut odd) = mpsc::unbounded_channel();
/// [1, 3].map(|number| sender.send(number).unwrap());
/// drop(sender);
/// even.close();
///
/// let mut numbers = Vec::new();
/// loop {
///     runtime::select! {
///         Some(number) = even.recv() => numbers.push(number),
///         Some(number) = odd.recv() => numbers.push(number),
///         else => break,
///     }
/// }
/// numbers.sort();
/// assert_eq!(numbers, [1, 2, 3, 4]);
/// # }
/// ```
///
/// # Which branch is polled first
///
/// Each poll begins with a branch that is drawn from the shard's generator, and goes round from
/// there. So no branch starves behind one that is always ready. A simulated run draws the same
/// branches again for the same seed.
///
/// With `biased;` in front of the branches each poll begins with the first and goes from top to
/// bottom. That saves the draw and fixes the order, and it is then up to you that a branch which is
/// always ready stands behind those that have to be heard.
///
/// ```
/// # #[runtime::main(shards = 1)]
/// # async fn main() {
/// let first = runtime::select! {
///     biased;
///     number = async { 1 } => number,
///     number = async { 2 } => number,
/// };
/// assert_eq!(first, 1);
/// # }
/// ```
///
/// A loop over branches that are always ready yields now and then: a `select!` costs a step of the
/// task's budget, unless a future in it has taken one.
///
/// # Panics
///
/// If every branch is disabled and there is no `else`.
///
/// # Cancel safety
///
/// Those that lose are dropped before they are ready. What that means is each future's own affair:
/// `docs/CANCELLATION.md` has a table with all async functions. In short, what is *safe* there may
/// lose in a loop, again and again, and nothing is lost: positional reads (`File::read_at`,
/// `read_fixed`), [`buffers::lease`](crate::buffers::lease), `read` of tokio's
/// [`AsyncReadExt`](crate::io::AsyncReadExt) on a file, a channel's `recv`,
/// [`Interval::tick`](crate::time::Interval::tick), and a
/// [`JoinHandle`](crate::task::JoinHandle) by `&mut`. A write that loses may have happened, or not,
/// or in part. Loops such as `read_exact`, `read_to_end` and `write_all` don't say how far they
/// came: pin such a future once, outside of the loop, and wait for it by `&mut`.
///
/// A `select!` that is itself dropped drops all of its futures.
#[macro_export]
macro_rules! select {
    ($($branches:tt)*) => { $crate::__private::select!($crate; $($branches)*) };
}
