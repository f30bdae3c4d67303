//! Ringhold's servers: in tokio's form, and by operations that take a buffer and give it back.

use std::io;

use runtime::io::{AsyncReadExt, AsyncWriteExt};
use runtime::net::{TcpListener, TcpStream};
use runtime::task::{JoinHandle, spawn_local};

use super::BUFFER_BYTES;
use super::server::{accept, listen};

pub fn serve_by_polls(connections: usize) -> io::Result<()> {
    serve(connections, |stream| spawn_local(echo_by_polls(stream)))
}

pub fn serve_owned(connections: usize) -> io::Result<()> {
    serve(connections, |stream| spawn_local(echo_owned(stream)))
}

pub fn serve_short_by_polls() -> io::Result<()> {
    serve_short(|stream| spawn_local(echo_by_polls(stream)))
}

pub fn serve_short_owned() -> io::Result<()> {
    serve_short(|stream| spawn_local(echo_owned(stream)))
}

fn serve_short(spawn: impl Fn(TcpStream) -> JoinHandle<io::Result<()>>) -> io::Result<()> {
    let listener = listen()?;
    listener.set_nonblocking(true)?;
    runtime::Builder::new_current_thread().run(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            drop(spawn(listener.accept().await?.0));
        }
    })?
}

fn serve(
    connections: usize,
    spawn: impl Fn(TcpStream) -> JoinHandle<io::Result<()>>,
) -> io::Result<()> {
    let streams = accept(connections)?;
    runtime::Builder::new_current_thread().run(async {
        let mut echoing = Vec::with_capacity(connections);
        for stream in streams {
            stream.set_nonblocking(true)?;
            echoing.push(spawn(TcpStream::from_std(stream)?));
        }
        for connection in echoing {
            connection.await.map_err(io::Error::other)??;
        }
        Ok(())
    })?
}

async fn echo_by_polls(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count]).await?;
    }
}

async fn echo_owned(stream: TcpStream) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    loop {
        buffer.clear();
        let (count, filled) = stream.read_owned(buffer).await?;
        if count == 0 {
            return Ok(());
        }
        (_, buffer) = stream.write_all_owned(filled).await?;
    }
}
