//! compio, with DEFER_TASKRUN, which it doesn't set by itself.

use std::io;

use compio::buf::BufResult;
use compio::driver::ProactorBuilder;
use compio::io::{AsyncRead, AsyncWriteExt};
use compio::net::TcpStream;
use compio::runtime::RuntimeBuilder;

use super::BUFFER_BYTES;
use super::server::accept;

pub fn serve(connections: usize) -> io::Result<()> {
    let streams = accept(connections)?;
    let mut proactor = ProactorBuilder::new();
    proactor
        .capacity((connections as u32).next_power_of_two().max(256))
        .single_issuer(true)
        .defer_taskrun(true)
        .taskrun_flag(true);
    let runtime = RuntimeBuilder::new().with_proactor(proactor).build()?;
    runtime.block_on(async {
        let mut echoing = Vec::with_capacity(connections);
        for stream in streams {
            echoing.push(compio::runtime::spawn(echo(TcpStream::from_std(stream)?)));
        }
        for connection in echoing {
            connection.await.map_err(|_| io::Error::other("a task panicked"))??;
        }
        Ok(())
    })
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    loop {
        buffer.clear();
        let BufResult(count, filled) = stream.read(buffer).await;
        if count? == 0 {
            return Ok(());
        }
        let BufResult(sent, back) = stream.write_all(filled).await;
        sent?;
        buffer = back;
    }
}
