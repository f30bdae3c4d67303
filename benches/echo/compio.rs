//! compio, with DEFER_TASKRUN, which it doesn't set by itself.

use std::io;

use compio::buf::BufResult;
use compio::driver::ProactorBuilder;
use compio::io::{AsyncRead, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::{Runtime, RuntimeBuilder};

use super::BUFFER_BYTES;
use super::server::{accept, listen};

fn runtime(connections: usize) -> io::Result<Runtime> {
    let mut proactor = ProactorBuilder::new();
    proactor
        .capacity((connections as u32).next_power_of_two().max(256))
        .single_issuer(true)
        .defer_taskrun(true)
        .taskrun_flag(true);
    RuntimeBuilder::new().with_proactor(proactor).build()
}

pub fn serve(connections: usize) -> io::Result<()> {
    let streams = accept(connections)?;
    runtime(connections)?.block_on(async {
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

pub fn serve_short(connections: usize) -> io::Result<()> {
    let listener = listen()?;
    runtime(connections)?.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            compio::runtime::spawn(echo(listener.accept().await?.0)).detach();
        }
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
