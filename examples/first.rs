//! A first program: reads the beginning of a file through a lease of the registered pool.

use runtime::{buffers, fs::File};

#[runtime::main]
async fn main() -> std::io::Result<()> {
    let path = std::env::args_os().nth(1).unwrap_or("README.md".into());
    let file = File::open(&path).await?;
    let lease = buffers::lease(128 * 1024).await?; // waits its turn when the pool is empty
    let (n, lease) = file.read_fixed(lease, 0).await?; // the lease comes back, filled
    println!("{n} bytes, beginning with \"{}\"", lease[..n.min(32)].escape_ascii());
    Ok(())
}
