//! One client: its requests, one after the other.

use std::io;
use std::rc::Rc;

use http::StatusCode;
use runtime::io::AsyncWriteExt;
use runtime::net::TcpStream;
use runtime::task::consume_budget;

use crate::outgoing::{Limits, Outgoing, in_time};
use crate::request::{HEAD_BYTES_MAX, Refusal, Request};
use crate::response::Response;
use crate::site::Site;

/// The bytes that are thrown away at the end, so that a client that still sends gets the response.
const REST_BYTES_MAX: u64 = 1 << 20;

/// The room for a head at first. Most are smaller.
const ROOM_BYTES: usize = 1024;

struct Connection<'a> {
    stream: TcpStream,
    site: &'a Site,
    limits: &'a Limits,
    /// What has come and is not looked at yet.
    bytes: Vec<u8>,
    /// Whether it was served before.
    is_known: bool,
    /// Whether there is a response on its way.
    owes: bool,
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        if self.owes {
            // It is given up, and so are the leases that it is in.
            let _: io::Result<()> = self.stream.reset();
        }
    }
}

/// What a client has asked for next.
enum Asked {
    For(Box<Request>),
    Refused(Refusal),
    /// It has nothing more to ask.
    Nothing,
}

/// Serves a client until it goes, or stalls.
pub async fn serve(stream: TcpStream, site: Rc<Site>, limits: Limits) {
    let mut connection = Connection {
        stream,
        site: &site,
        limits: &limits,
        bytes: Vec::new(),
        is_known: false,
        owes: false,
    };
    // What goes wrong with one connection is its peer's matter.
    if connection.serve().await.is_ok() {
        connection.close().await;
    }
}

impl Connection<'_> {
    async fn serve(&mut self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        loop {
            // A client that sends requests without end, and takes the responses, never lets us
            // wait: others must have their turn all the same.
            consume_budget().await;
            let (response, body) = match self.request().await? {
                Asked::For(request) => (Response::to(&request, self.site).await, request.body),
                Asked::Refused(refusal) => (Response::refusal(&refusal), 0),
                Asked::Nothing => return Ok(()),
            };
            let stays = response.stays;
            self.owes = true;
            Outgoing::new(&self.stream, self.limits).send(response).await?;
            self.owes = false;
            self.is_known = true;
            if !stays || !self.skip(body).await? {
                return Ok(());
            }
        }
    }

    /// The next request. A connection that waits for one has no buffer.
    async fn request(&mut self) -> io::Result<Asked> {
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
            let patience = if self.is_known { self.limits.idle } else { self.limits.head };
            match in_time(patience, self.stream.readable()).await {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(Asked::Nothing),
                readable => readable?,
            }
            self.bytes.reserve_exact(ROOM_BYTES);
        }
        match in_time(self.limits.head, self.head()).await {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                let is_head = self.bytes.starts_with(b"HEAD ");
                Ok(Asked::Refused(Refusal { status: StatusCode::REQUEST_TIMEOUT, is_head }))
            }
            asked => asked,
        }
    }

    async fn head(&mut self) -> io::Result<Asked> {
        loop {
            match Request::parse(&self.bytes) {
                Ok(Some((length, request))) => {
                    self.bytes.drain(..length);
                    return Ok(Asked::For(Box::new(request)));
                }
                Ok(None) => {}
                Err(refusal) => return Ok(Asked::Refused(refusal)),
            }
            // Another look makes sense when a line has ended, or when there is too much.
            loop {
                let before = self.bytes.len();
                if self.fill().await? == 0 {
                    return Ok(Asked::Nothing);
                }
                if self.bytes[before..].contains(&b'\n') || self.bytes.len() >= HEAD_BYTES_MAX {
                    break;
                }
            }
        }
    }

    /// Adds what has come, and gives how many bytes it was; 0 at the end.
    async fn fill(&mut self) -> io::Result<usize> {
        loop {
            consume_budget().await;
            if self.bytes.len() == self.bytes.capacity() {
                self.bytes.reserve(ROOM_BYTES);
            }
            match self.stream.try_read_buf(&mut self.bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stream.readable().await?;
                }
                outcome => return outcome,
            }
        }
    }

    /// Throws a body away. Whether the connection can go on after it.
    async fn skip(&mut self, body: u64) -> io::Result<bool> {
        let mut left = body as usize;
        in_time(self.limits.stall, async {
            loop {
                let count = left.min(self.bytes.len());
                self.bytes.drain(..count);
                left -= count;
                if left == 0 {
                    return Ok(true);
                }
                if self.fill().await? == 0 {
                    return Ok(false);
                }
            }
        })
        .await
    }

    /// Ends the connection. If bytes of the client were left in it, the kernel would reset it, and
    /// the client might lose the response: so they are read, for a while.
    async fn close(&mut self) {
        let limits = self.limits;
        let rest = async {
            self.stream.shutdown().await?;
            let mut left = REST_BYTES_MAX;
            loop {
                self.bytes.clear();
                match self.fill().await? as u64 {
                    0 => return Ok(()),
                    count => left = left.saturating_sub(count),
                }
                if left == 0 {
                    return Ok(());
                }
            }
        };
        let _: io::Result<()> = in_time(limits.head, rest).await;
    }
}
