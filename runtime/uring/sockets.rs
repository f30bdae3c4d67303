//! Linux's sockets, as far as they answer at once.

#![allow(unsafe_code)] // System calls.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::RawFd;
use std::ptr;

use libc::{c_int, c_void, socklen_t};
use ringhold_kernel::{SocketAddress, Sockets};

use crate::Linux;

const NEW: c_int = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;

/// What a system call answered.
fn answer(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn count(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Lets a system call fill an address.
fn filled(
    call: impl FnOnce(*mut libc::sockaddr, *mut socklen_t) -> c_int,
) -> io::Result<(c_int, SocketAddress)> {
    let mut address = SocketAddress::new();
    let room = address.room();
    let mut length = room.len() as socklen_t;
    let result = answer(call(room.as_mut_ptr().cast(), &raw mut length))?;
    address.set_length(length as usize);
    Ok((result, address))
}

fn pointer(address: &SocketAddress) -> (*const libc::sockaddr, socklen_t) {
    let bytes = address.as_bytes();
    (bytes.as_ptr().cast(), bytes.len() as socklen_t)
}

impl Sockets for Linux {
    fn open(&self, domain: i32, kind: i32, protocol: i32) -> io::Result<RawFd> {
        // SAFETY: it points to nothing, so S1 asks nothing.
        answer(unsafe { libc::socket(domain, kind | NEW, protocol) })
    }

    fn pair(&self, kind: i32) -> io::Result<[RawFd; 2]> {
        let mut pair = [-1; 2];
        // SAFETY: it writes two numbers, for which there is room, during the call (S1).
        answer(unsafe { libc::socketpair(libc::AF_UNIX, kind | NEW, 0, pair.as_mut_ptr()) })?;
        Ok(pair)
    }

    fn bind(&self, socket: RawFd, address: &SocketAddress) -> io::Result<()> {
        let (address, length) = pointer(address);
        // SAFETY: it reads the address, which is borrowed, during the call (S1).
        answer(unsafe { libc::bind(socket, address, length) }).map(drop)
    }

    fn connect_now(&self, socket: RawFd, address: &SocketAddress) -> io::Result<()> {
        let (address, length) = pointer(address);
        // SAFETY: as above (S1).
        answer(unsafe { libc::connect(socket, address, length) }).map(drop)
    }

    fn listen(&self, socket: RawFd, backlog: i32) -> io::Result<()> {
        // SAFETY: it points to nothing, so S1 asks nothing.
        answer(unsafe { libc::listen(socket, backlog) }).map(drop)
    }

    fn local_address(&self, socket: RawFd) -> io::Result<SocketAddress> {
        // SAFETY: it writes into the room of an address of ours, during the call (S1).
        let ask = |into, length| unsafe { libc::getsockname(socket, into, length) };
        filled(ask).map(|(_, address)| address)
    }

    fn peer_address(&self, socket: RawFd) -> io::Result<SocketAddress> {
        // SAFETY: as above (S1).
        let ask = |into, length| unsafe { libc::getpeername(socket, into, length) };
        filled(ask).map(|(_, address)| address)
    }

    fn set_option(&self, socket: RawFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
        let (address, length) = (value.as_ptr().cast::<c_void>(), value.len() as socklen_t);
        // SAFETY: it reads the value, which is borrowed, during the call (S1).
        answer(unsafe { libc::setsockopt(socket, level, name, address, length) }).map(drop)
    }

    fn option(&self, socket: RawFd, level: i32, name: i32, value: &mut [u8]) -> io::Result<usize> {
        let address = value.as_mut_ptr().cast::<c_void>();
        let mut length = value.len() as socklen_t;
        // SAFETY: it writes at most as many bytes as `value` has, during the call (S1).
        answer(unsafe { libc::getsockopt(socket, level, name, address, &raw mut length) })?;
        Ok(length as usize)
    }

    fn gate(&self, descriptor: RawFd, events: u32) -> io::Result<RawFd> {
        // SAFETY: it points to nothing, so S1 asks nothing.
        let gate = answer(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        let mut event = libc::epoll_event { events, u64: 0 };
        // SAFETY: it reads the event, which is borrowed, during the call (S1).
        let add = unsafe { libc::epoll_ctl(gate, libc::EPOLL_CTL_ADD, descriptor, &raw mut event) };
        answer(add).map(|_| gate).inspect_err(|_| {
            // SAFETY: the descriptor is this function's own, made above (S10).
            unsafe { libc::close(gate) };
        })
    }

    fn readiness(&self, descriptor: RawFd, events: u32) -> u32 {
        let mut asked = libc::pollfd { fd: descriptor, events: events as i16, revents: 0 };
        // SAFETY: it writes into the one entry, which is borrowed, during the call (S1).
        unsafe { libc::poll(&raw mut asked, 1, 0) };
        u32::from(asked.revents as u16)
    }

    fn shutdown(&self, socket: RawFd, how: i32) -> io::Result<()> {
        // SAFETY: it points to nothing, so S1 asks nothing.
        answer(unsafe { libc::shutdown(socket, how) }).map(drop)
    }

    fn accept_now(&self, socket: RawFd) -> io::Result<(RawFd, SocketAddress)> {
        // SAFETY: it writes into the room of an address of ours, during the call (S1).
        filled(|into, length| unsafe { libc::accept4(socket, into, length, NEW) })
    }

    fn receive_now(
        &self,
        socket: RawFd,
        buffers: &mut [IoSliceMut<'_>],
        mut from: Option<&mut SocketAddress>,
        flags: i32,
    ) -> io::Result<usize> {
        let flags = flags | libc::MSG_DONTWAIT;
        let (name, room) = from.as_mut().map_or((ptr::null_mut(), 0), |from| {
            let room = from.room();
            (room.as_mut_ptr(), room.len())
        });
        let (taken, name_length) = if let [only] = buffers {
            let (into, length) = (only.as_mut_ptr().cast(), only.len());
            let mut name_length = room as socklen_t;
            let name_room = if name.is_null() { ptr::null_mut() } else { &raw mut name_length };
            // SAFETY: it writes into the buffer and into the address and its length, if one was
            // given, which are all borrowed exclusively, during the call (S1).
            let result =
                unsafe { libc::recvfrom(socket, into, length, flags, name.cast(), name_room) };
            (count(result)?, name_length)
        } else {
            // std promises that its slices are laid out as the kernel's `iovec`.
            let (list, parts) = (buffers.as_mut_ptr().cast::<libc::iovec>(), buffers.len());
            let mut message = message(name.cast(), room, list, parts);
            // SAFETY: as above (S1).
            let result = unsafe { libc::recvmsg(socket, &raw mut message, flags) };
            (count(result)?, message.msg_namelen)
        };
        if let Some(from) = from {
            from.set_length(name_length as usize);
        }
        Ok(taken)
    }

    fn send_now(
        &self,
        socket: RawFd,
        buffers: &[IoSlice<'_>],
        to: Option<&SocketAddress>,
        flags: i32,
    ) -> io::Result<usize> {
        let to = to.map_or(&[][..], SocketAddress::as_bytes);
        let name = if to.is_empty() { ptr::null() } else { to.as_ptr() };
        let flags = flags | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        if let [only] = buffers {
            let (bytes, length) = (only.as_ptr().cast(), only.len());
            let name_length = to.len() as socklen_t;
            // SAFETY: it reads the buffer and the address, which are borrowed, during the call
            // (S1).
            let result =
                unsafe { libc::sendto(socket, bytes, length, flags, name.cast(), name_length) };
            return count(result);
        }
        let (list, parts) = (buffers.as_ptr().cast_mut().cast::<libc::iovec>(), buffers.len());
        let message = message(name.cast_mut().cast(), to.len(), list, parts);
        // SAFETY: as above (S1); it writes to nothing, whatever the types of the message say.
        count(unsafe { libc::sendmsg(socket, &raw const message, flags) })
    }

    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        (host, port).to_socket_addrs().map(Iterator::collect)
    }
}

/// At most as many parts as the kernel takes in one call; the rest is for the next one.
pub(super) const MOST_PARTS: usize = 1024;

fn message(
    name: *mut c_void,
    name_length: usize,
    parts: *mut libc::iovec,
    count: usize,
) -> libc::msghdr {
    // SAFETY: a message header is made of integers and pointers, for which zero is a value; what
    // it points to is the matter of the call that it is for (S1).
    let mut message = unsafe { mem::zeroed::<libc::msghdr>() };
    message.msg_name = name;
    message.msg_namelen = name_length as socklen_t;
    message.msg_iov = parts;
    message.msg_iovlen = count.min(MOST_PARTS) as _;
    message
}
