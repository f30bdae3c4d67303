//! tokio's current-thread runtime.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::BUFFER_BYTES;
use super::server::{accept, listen};

pub fn serve(connections: usize) -> io::Result<()> {
    let streams = accept(connections)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let mut echoing = Vec::with_capacity(connections);
        for stream in streams {
            stream.set_nonblocking(true)?;
            echoing.push(tokio::spawn(echo(TcpStream::from_std(stream)?)));
        }
        for connection in echoing {
            connection.await.map_err(io::Error::other)??;
        }
        Ok(())
    })
}

pub fn serve_short() -> io::Result<()> {
    let listener = listen()?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            drop(tokio::spawn(echo(listener.accept().await?.0)));
        }
    })
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count]).await?;
    }
}
