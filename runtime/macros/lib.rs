//! The macros of the Ringhold runtime: the attributes `#[main]` and `#[test]`, and `select!`.
//!
//! The crate `ringhold` re-exports them as `runtime::main`, `runtime::test` and `runtime::select`;
//! no program needs this crate by name. The attributes take tokio's arguments and the runtime's
//! own, so that `tokio = { package = "ringhold" }` resolves `#[tokio::main]` and `#[tokio::test]`.
//!
//! # Arguments
//!
//! - `shards = 2`: how many shards there are, at least 1. More than one makes a test run on as
//!   many threads.
//! - `pin = true`: pins each shard's thread to a core.
//! - `name = "server"`: the name of the runtime.
//! - `flavor = "multi_thread"`: as many shards as `shards` says, else the runtime's default;
//!   `"current_thread"` and `"local"`: one shard.
//! - `worker_threads = 2`: tokio's name for `shards`; give one of the two.
//! - `start_paused = true`: the clock stands still, and jumps to the next timer when all tasks
//!   wait. It needs a single shard.
//! - `unhandled_panic = "ignore"`: accepted for tokio's sake, as is `"shutdown_runtime"`, and
//!   changes nothing: a panic stays in its task.
//! - `crate = "a::b"`: the path under which the runtime is found, taken verbatim.
//!
//! Values are literals. A wrong argument is a compile error that says what to write instead.
//!
//! # Paths
//!
//! The expansion names the runtime by the key of the dependency in `Cargo.toml`: `::runtime` for
//! `ringhold = ..`, `::tokio` for `tokio = { package = "ringhold", .. }`, and `::runtime` if there
//! is no such dependency. A crate that re-exports the runtime to its users has them write
//! `crate = "..."`.

mod arguments;
mod expand;
mod manifest;
mod select;

use arguments::Kind;
use proc_macro::TokenStream;

/// Runs an async function on a runtime: the calling thread becomes shard 0 and runs the function,
/// then the runtime shuts down.
///
/// Without arguments there are as many shards as the runtime starts by default. The arguments are
/// listed in the [crate's documentation](crate). The function may return whatever a function may
/// return, such as `Result<(), E>`, an `impl Trait` or `!`; unless it is `main`, it may also have
/// arguments.
///
/// ```text
/// #[runtime::main(shards = 2)]
/// async fn main() -> std::io::Result<()> {
///     let text = runtime::fs::read_to_string("Cargo.toml").await?;
///     println!("{} bytes", text.len());
///     Ok(())
/// }
/// ```
///
/// becomes
///
/// ```text
/// fn main() -> std::io::Result<()> {
///     let body = async { .. };
///     match runtime::Builder::new_multi_thread().shards(2).enable_all().run(body) {
///         Ok(output) => output,
///         Err(error) => /* says so on stderr and exits with status 1 */,
///     }
/// }
/// ```
///
/// # Errors
///
/// If the runtime can't start, the process prints why and what to do about it on standard error,
/// and exits with status 1.
#[proc_macro_attribute]
pub fn main(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(Kind::Main, arguments.into(), item.into(), expand::find_runtime).into()
}

/// Makes an async function a test, which runs on a runtime of its own.
///
/// Without arguments the runtime has one shard, the test's own thread. The arguments are listed in
/// the [crate's documentation](crate). Other attributes stay: `#[should_panic]`, `#[ignore]` and
/// the like. The function takes no arguments and may return what a test may return.
///
/// ```text
/// #[runtime::test(start_paused = true)]
/// async fn an_hour_is_nothing() {
///     let start = runtime::time::Instant::now();
///     runtime::time::sleep(std::time::Duration::from_secs(3600)).await;
///     assert_eq!(start.elapsed().as_secs(), 3600);
/// }
/// ```
///
/// # Errors
///
/// If the runtime can't start, the test panics with the reason.
#[proc_macro_attribute]
pub fn test(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(Kind::Test, arguments.into(), item.into(), expand::find_runtime).into()
}

/// Waits for several futures, and goes on with the first that is ready.
///
/// This is what `runtime::select!` hands its branches to, with a path in front of them under which
/// the runtime is found wherever the macro is used, and a semicolon. It is documented there.
#[proc_macro]
pub fn select(branches: TokenStream) -> TokenStream {
    select::expand(branches.into()).into()
}
