//! Both ends of a connection in the hunt: one task writes and one reads, in every form there is,
//! and much of it is dropped in the middle.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use runtime::buffers::{self, IoBuf, Lease};
use runtime::io::{AsyncReadExt, AsyncWriteExt};
use runtime::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use runtime::time::{sleep, timeout};

use super::fate;

/// What is known of one direction of a connection.
#[derive(Debug, Default)]
struct Known {
    /// So many bytes were sent for sure.
    settled: u64,
    /// So many may have been sent.
    begun: u64,
    /// So many have arrived.
    received: u64,
    /// The end may be told from now on.
    ended: bool,
}

/// One direction of a connection.
#[derive(Clone, Debug)]
pub struct Way {
    /// Which bytes it carries.
    salt: u64,
    /// Whether its connection may break.
    breaks: bool,
    known: Arc<Mutex<Known>>,
}

impl Way {
    pub fn new(salt: u64, breaks: bool) -> Way {
        Way { salt, breaks, known: Arc::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no holder of it panics")
    }

    fn bytes(&self, from: u64, length: usize) -> Vec<u8> {
        (from..from + length as u64).map(|at| ((at * 31 + self.salt * 101) % 251) as u8).collect()
    }

    /// The next bytes; they may arrive from now on.
    fn begin(&self, length: usize) -> Vec<u8> {
        let mut known = self.known();
        known.begun = known.settled + length as u64;
        self.bytes(known.settled, length)
    }

    /// So many of them were sent, and no more.
    fn settle(&self, count: usize) {
        let mut known = self.known();
        known.settled += count as u64;
        known.begun = known.settled;
    }

    fn take(&self, bytes: &[u8]) -> io::Result<()> {
        let mut known = self.known();
        if self.bytes(known.received, bytes.len()) != bytes {
            return Err(broken(format!("other bytes than those that were sent: {known:?}")));
        }
        known.received += bytes.len() as u64;
        match known.received > known.begun {
            true => Err(broken(format!("more bytes than were sent: {known:?}"))),
            false => Ok(()),
        }
    }

    fn end(&self) -> io::Result<()> {
        let known = self.known();
        let whole = (known.settled..=known.begun).contains(&known.received);
        // Of a connection that broke whoever asks first is told, which may be the other direction's
        // task; for everybody else it has ended.
        match self.breaks || known.ended && whole {
            true => Ok(()),
            false => Err(broken(format!("an end before the end: {known:?}"))),
        }
    }
}

fn broken(what: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// Sends about `total` bytes, and the end. Who drops an operation of an owned buffer doesn't know
/// what was sent, and ends there.
pub async fn write(
    mut half: OwnedWriteHalf,
    way: Way,
    mut dice: fastrand::Rng,
    total: u64,
) -> io::Result<()> {
    while way.known().settled < total {
        let (length, kind) = (dice.usize(1..=4096), dice.u32(..8));
        if kind == 7 {
            sleep(Duration::from_micros(dice.u64(..300))).await;
            continue;
        }
        let lease = match kind {
            2 | 3 => {
                let Some(lease) = lease(&mut dice, length).await? else { continue };
                Some(lease)
            }
            _ => None,
        };
        let bytes = way.begin(length);
        let Some(count) = send(&mut half, &mut dice, kind, lease, bytes).await? else { break };
        way.settle(count);
    }
    way.known().ended = true;
    half.shutdown().await
}

/// Sends some of the bytes, and says how many; `None` if that is not known.
async fn send(
    half: &mut OwnedWriteHalf,
    dice: &mut fastrand::Rng,
    kind: u32,
    lease: Option<Lease>,
    bytes: Vec<u8>,
) -> io::Result<Option<usize>> {
    if let Some(mut lease) = lease {
        lease.extend_from_slice(&bytes);
        if kind == 3 {
            return send_zero_copy(dice, half, lease).await;
        }
        let sent = fate(dice, half.write_fixed(lease)).await;
        return Ok(sent.transpose()?.map(|it| it.0));
    }
    match kind {
        // It is safe to drop: nothing of it was sent.
        0 => Ok(Some(fate(dice, half.write(&bytes)).await.transpose()?.unwrap_or(0))),
        1 => {
            fate(dice, half.writable()).await.transpose()?;
            match half.try_write(&bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Some(0)),
                count => Ok(Some(count?)),
            }
        }
        4 => send_zero_copy(dice, half, bytes).await,
        5 => {
            let parts: Vec<_> = bytes.chunks(700).map(<[u8]>::to_vec).collect();
            let sent = fate(dice, half.write_vectored_owned(parts)).await;
            Ok(sent.transpose()?.map(|it| it.0))
        }
        _ => Ok(fate(dice, half.write_owned(bytes)).await.transpose()?.map(|it| it.0)),
    }
}

/// A lease, if there is one soon. Who writes keeps one until the peer reads: to wait for ever for
/// one, where the peer does, would be a deadlock of two services.
async fn lease(dice: &mut fastrand::Rng, length: usize) -> io::Result<Option<Lease>> {
    let patience = Duration::from_micros(dice.u64(..1_000));
    Ok(timeout(patience, buffers::lease(length)).await.ok().transpose()?)
}

async fn send_zero_copy<B: IoBuf>(
    dice: &mut fastrand::Rng,
    half: &OwnedWriteHalf,
    buffer: B,
) -> io::Result<Option<usize>> {
    match fate(dice, half.send_zero_copy(buffer)).await.transpose()? {
        Some((count, sending)) => {
            // The buffer comes back, or is given up.
            let _ = fate(dice, sending).await;
            Ok(Some(count))
        }
        None => Ok(None),
    }
}

/// Reads to the end: of half of the connections mostly in one way, as services do.
pub async fn read(mut half: OwnedReadHalf, way: Way, mut dice: fastrand::Rng) -> io::Result<()> {
    let (mostly, is_mixed) = (dice.u32(..6), dice.bool());
    loop {
        let kind = if is_mixed || dice.u32(..20) == 0 { dice.u32(..7) } else { mostly };
        let mut bytes = vec![0; dice.usize(1..=3000)];
        let received = match kind {
            5 => read_leases(&mut half, &way, &mut dice).await?.then_some(0),
            6 => {
                sleep(Duration::from_micros(dice.u64(..300))).await;
                None
            }
            4 => {
                look(&mut half, &way, &mut dice, &mut bytes).await?;
                None
            }
            kind => receive(&mut half, &mut dice, kind, &mut bytes).await?,
        };
        match received {
            Some(0) => return way.end(),
            Some(count) => way.take(&bytes[..count])?,
            None => {}
        }
    }
}

/// Receives some bytes, and says how many; `None` if it was dropped, or too early.
async fn receive(
    half: &mut OwnedReadHalf,
    dice: &mut fastrand::Rng,
    kind: u32,
    bytes: &mut [u8],
) -> io::Result<Option<usize>> {
    let most = bytes.len();
    match kind {
        0 => fate(dice, half.read(bytes)).await.transpose(),
        1 => {
            fate(dice, half.readable()).await.transpose()?;
            match half.try_read(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
                count => Ok(Some(count?)),
            }
        }
        2 => {
            let read = fate(dice, half.read_owned(Vec::with_capacity(most))).await;
            Ok(read.transpose()?.map(|(count, read)| {
                bytes[..count].copy_from_slice(&read);
                count
            }))
        }
        _ => {
            let Some(lease) = lease(dice, most).await? else { return Ok(None) };
            let read = fate(dice, half.read_fixed(lease)).await;
            Ok(read.transpose()?.map(|(count, lease)| {
                bytes[..count].copy_from_slice(&lease[..count]);
                count
            }))
        }
    }
}

/// Looks at what the next read will bring.
async fn look(
    half: &mut OwnedReadHalf,
    way: &Way,
    dice: &mut fastrand::Rng,
    bytes: &mut [u8],
) -> io::Result<()> {
    let Some(count) = fate(dice, half.peek(bytes)).await.transpose()? else { return Ok(()) };
    let received = way.known().received;
    match way.bytes(received, count) == bytes[..count] {
        true => Ok(()),
        false => Err(broken(format!("other bytes are seen: {way:?}"))),
    }
}

/// Takes some leases that the kernel picks; says whether the end came.
async fn read_leases(
    half: &mut OwnedReadHalf,
    way: &Way,
    dice: &mut fastrand::Rng,
) -> io::Result<bool> {
    let mut leases = half.leases([1024, 4096][dice.usize(..2)]);
    for _ in 0..dice.u32(1..8) {
        let patience = Duration::from_micros(dice.u64(..2_000));
        match timeout(patience, leases.next()).await {
            Ok(Some(lease)) => way.take(&lease?)?,
            Ok(None) => return Ok(true),
            Err(_) => {}
        }
    }
    Ok(false)
}

/// What a connection ends with that somebody has cut or reset.
pub async fn may_break<T>(
    disasters: bool,
    talking: impl Future<Output = io::Result<T>>,
) -> io::Result<Option<T>> {
    match talking.await {
        Err(error) if disasters && error.kind() != ErrorKind::InvalidData => Ok(None),
        ended => ended.map(Some),
    }
}
