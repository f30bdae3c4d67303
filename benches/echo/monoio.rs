//! monoio, as shipped.

use std::io;

use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, RuntimeBuilder};

use super::BUFFER_BYTES;
use super::server::{accept, listen};

pub fn serve(connections: usize) -> io::Result<()> {
    let streams = accept(connections)?;
    let entries = (connections as u32).next_power_of_two().max(256);
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new().with_entries(entries).build()?;
    runtime.block_on(async {
        let mut echoing = Vec::with_capacity(connections);
        for stream in streams {
            echoing.push(monoio::spawn(echo(TcpStream::from_std(stream)?)));
        }
        for connection in echoing {
            connection.await?;
        }
        Ok(())
    })
}

pub fn serve_short(connections: usize) -> io::Result<()> {
    let listener = listen()?;
    let entries = (connections as u32).next_power_of_two().max(256);
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new().with_entries(entries).build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            drop(monoio::spawn(echo(listener.accept().await?.0)));
        }
    })
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    loop {
        buffer.clear();
        let (count, filled) = stream.read(buffer).await;
        if count? == 0 {
            return Ok(());
        }
        let (sent, back) = stream.write_all(filled).await;
        sent?;
        buffer = back;
    }
}
