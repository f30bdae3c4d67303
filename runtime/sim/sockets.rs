//! What a simulated host answers at once about its sockets.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;

use ringhold_kernel::{SocketAddress, Sockets};

use crate::disk::Errno;
use crate::net::{self, Kind, Name, SocketId};
use crate::system::SimSystem;
use crate::world::World;

type Answer<T> = Result<T, i32>;

impl SimSystem {
    /// Asks the host's kernel; one whose service is gone answers nothing any more.
    pub(crate) fn ask<R>(&self, ask: impl FnOnce(&mut World) -> Answer<R>) -> io::Result<R> {
        let mut world = self.world.lock();
        let machine = &world.machines[self.host];
        if machine.incarnation != self.incarnation || !machine.alive {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        let answer = ask(&mut world);
        world.go_on();
        answer.map_err(io::Error::from_raw_os_error)
    }

    /// Asks about a socket.
    fn ask_of<R>(
        &self,
        socket: RawFd,
        ask: impl FnOnce(&mut World, SocketId) -> Answer<R>,
    ) -> io::Result<R> {
        self.ask(|world| {
            let machine = &world.machines[self.host];
            let missing =
                if machine.files.serial(socket).is_some() { libc::ENOTSOCK } else { libc::EBADF };
            let id = machine.sockets.get(&socket).copied().ok_or(missing)?;
            ask(world, id)
        })
    }
}

impl World {
    /// Gives a socket a descriptor.
    pub(crate) fn install(&mut self, host: usize, id: SocketId) -> Answer<RawFd> {
        let machine = &mut self.machines[host];
        let descriptor = machine.files.take_descriptor().map_err(|Errno(errno)| errno)?;
        machine.sockets.insert(descriptor, id);
        Ok(descriptor)
    }

    /// Makes the file of a path that a socket is bound to.
    fn make_path(&mut self, host: usize, path: &[u8]) -> Answer<u64> {
        let files = &mut self.machines[host].files;
        let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY;
        let made = files.open_at(libc::AT_FDCWD, path, flags, 0o755);
        let descriptor = made.map_err(|Errno(errno)| match errno {
            libc::EEXIST => libc::EADDRINUSE,
            other => other,
        })?;
        let closed = files.close(descriptor);
        let status = files.statx(libc::AT_FDCWD, path, 0).map_err(|Errno(errno)| errno)?;
        closed.map(|()| status.inode).map_err(|Errno(errno)| errno)
    }
}

fn kind(domain: i32, kind: i32) -> Answer<Kind> {
    if ![libc::AF_INET, libc::AF_INET6, libc::AF_UNIX].contains(&domain) {
        return Err(libc::EAFNOSUPPORT);
    }
    match kind & !(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) {
        libc::SOCK_STREAM => Ok(Kind { domain, is_stream: true }),
        libc::SOCK_DGRAM => Ok(Kind { domain, is_stream: false }),
        _ => Err(libc::EPROTONOSUPPORT),
    }
}

/// The address of a socket that has none.
fn unnamed(domain: i32) -> Name {
    match domain {
        libc::AF_INET => Name::Inet(([0; 4], 0).into()),
        libc::AF_INET6 => Name::Inet(([0_u16; 8], 0).into()),
        _ => Name::UNNAMED,
    }
}

impl Sockets for SimSystem {
    fn open(&self, domain: i32, of: i32, _protocol: i32) -> io::Result<RawFd> {
        self.ask(|world| {
            let id = world.network.open(self.host, kind(domain, of)?);
            world.install(self.host, id).inspect_err(|_| world.network.close(id))
        })
    }

    fn pair(&self, of: i32) -> io::Result<[RawFd; 2]> {
        self.ask(|world| {
            let [one, other] = world.network.pair(self.host, kind(libc::AF_UNIX, of)?);
            let first = world.install(self.host, one)?;
            match world.install(self.host, other) {
                Ok(second) => Ok([first, second]),
                Err(errno) => {
                    world.network.close(other);
                    let closed = world.close(self.host, first);
                    closed.map_err(|Errno(errno)| errno)?;
                    Err(errno)
                }
            }
        })
    }

    fn bind(&self, socket: RawFd, address: &SocketAddress) -> io::Result<()> {
        self.ask_of(socket, |world, id| {
            let name = Name::of(address).ok_or(libc::EAFNOSUPPORT)?;
            let file = match &name {
                Name::Unix(path) if path.first().is_some_and(|first| *first != 0) => {
                    Some(world.make_path(self.host, path)?)
                }
                _ => None,
            };
            world.network.bind(id, name, file)
        })
    }

    fn connect_now(&self, socket: RawFd, address: &SocketAddress) -> io::Result<()> {
        self.ask_of(socket, |world, id| {
            if world.network.socket(id).kind.is_stream {
                if i32::from(address.family()) != libc::AF_UNSPEC {
                    return Err(libc::EINPROGRESS);
                }
                world.network.reset(id);
                return Ok(());
            }
            let (name, file) = world.name(self.host, Name::of(address))?;
            let now = world.now;
            world.network.connect(id, &name, file, now).map(drop)
        })
    }

    fn listen(&self, socket: RawFd, backlog: i32) -> io::Result<()> {
        self.ask_of(socket, |world, id| world.network.listen(id, backlog))
    }

    fn local_address(&self, socket: RawFd) -> io::Result<SocketAddress> {
        self.ask_of(socket, |world, id| {
            let socket = world.network.socket(id);
            let name = socket.local.clone().unwrap_or_else(|| unnamed(socket.kind.domain));
            Ok(name.address())
        })
    }

    fn peer_address(&self, socket: RawFd) -> io::Result<SocketAddress> {
        self.ask_of(socket, |world, id| {
            let name = world.network.peer_name(id).ok_or(libc::ENOTCONN)?;
            Ok(name.address())
        })
    }

    fn set_option(&self, socket: RawFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
        self.ask_of(socket, |world, id| {
            world.network.set_option(id, level, name, value);
            Ok(())
        })
    }

    fn option(&self, socket: RawFd, level: i32, name: i32, value: &mut [u8]) -> io::Result<usize> {
        self.ask_of(socket, |world, id| world.network.option(id, level, name, value))
    }

    fn shutdown(&self, socket: RawFd, how: i32) -> io::Result<()> {
        self.ask_of(socket, |world, id| world.network.shutdown(id, how))
    }

    fn accept_now(&self, socket: RawFd) -> io::Result<(RawFd, SocketAddress)> {
        self.ask_of(socket, |world, id| {
            let connection = world.network.accept(id)?.ok_or(libc::EAGAIN)?;
            let peer = world.network.connected_from(connection);
            match world.install(self.host, connection) {
                Ok(descriptor) => Ok((descriptor, peer.address())),
                Err(errno) => {
                    world.network.wait_on(id, connection);
                    Err(errno)
                }
            }
        })
    }

    fn receive_now(
        &self,
        socket: RawFd,
        buffers: &mut [IoSliceMut<'_>],
        from: Option<&mut SocketAddress>,
        flags: i32,
    ) -> io::Result<usize> {
        self.ask_of(socket, |world, id| {
            let room = buffers.iter().map(|buffer| buffer.len()).sum();
            let leave = flags & libc::MSG_PEEK != 0;
            let received = world.receive_some(self.host, id, room, leave)?;
            let (bytes, sender, length) = received.ok_or(libc::EAGAIN)?;
            let mut rest = &bytes[..];
            for buffer in buffers {
                let (here, after) = rest.split_at(rest.len().min(buffer.len()));
                buffer[..here.len()].copy_from_slice(here);
                rest = after;
            }
            if let Some(from) = from {
                *from = sender.address();
            }
            Ok(if flags & libc::MSG_TRUNC != 0 { length } else { bytes.len() })
        })
    }

    fn send_now(
        &self,
        socket: RawFd,
        buffers: &[IoSlice<'_>],
        to: Option<&SocketAddress>,
        _flags: i32,
    ) -> io::Result<usize> {
        self.ask_of(socket, |world, id| {
            let bytes: Vec<u8> = buffers.iter().flat_map(|buffer| buffer.iter()).copied().collect();
            let to = match to {
                Some(to) => Some(world.name(self.host, Name::of(to))?),
                None => None,
            };
            let to = to.as_ref().map(|(name, file)| (name, *file));
            let most = world.draw_moved(self.host, id, bytes.len());
            world.network.send(id, &bytes[..most], to)?.ok_or(libc::EAGAIN)
        })
    }

    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![(address, port).into()]);
        }
        if host == "localhost" {
            return Ok(vec![([127, 0, 0, 1], port).into()]);
        }
        let world = self.world.lock();
        let known = world.machines.iter().position(|machine| machine.name == host);
        let known = known.ok_or_else(|| {
            let what = format!("no host of the simulation is called \"{host}\"");
            io::Error::new(io::ErrorKind::NotFound, what)
        })?;
        Ok(net::addresses(known).map(|address| (address, port).into()).to_vec())
    }
}
