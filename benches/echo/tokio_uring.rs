//! tokio-uring.

use std::io;

use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::TcpStream;

use super::BUFFER_BYTES;
use super::server::accept;

pub fn serve(connections: usize) -> io::Result<()> {
    let streams = accept(connections)?;
    tokio_uring::start(async {
        let mut echoing = Vec::with_capacity(connections);
        for stream in streams {
            echoing.push(tokio_uring::spawn(echo(TcpStream::from_std(stream))));
        }
        for connection in echoing {
            connection.await.map_err(io::Error::other)??;
        }
        Ok(())
    })
}

async fn echo(stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let (count, filled) = stream.read(buffer).await;
        let count = count?;
        if count == 0 {
            return Ok(());
        }
        let (sent, back) = stream.write_all(filled.slice(..count)).await;
        sent?;
        buffer = back.into_inner();
    }
}
