//! Sockets at the edges of what the kernel takes: buffers of 2 GiB and more, peers that are gone
//! where a signal would tell of it, and names that fill all the room there is.

#![allow(unsafe_code)] // Setting a signal's action, and a name that std can't give a socket.

mod common;

use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::{SocketAddr as StdAddress, UnixDatagram as StdDatagram};
use std::path::Path;
use std::thread;
use std::time::Duration;

use common::{isolated, limits, skip};
use runtime::Builder;
use runtime::buffers;
use runtime::io::AsyncWriteExt;
use runtime::net::{TcpListener, TcpStream, UnixDatagram, UnixStream};
use runtime::process::Command;
use runtime::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

/// As an `int` can't say it. Nobody touches the most of it, so it takes no memory.
const TWO_GIB: usize = 1 << 31;

/// Runs the test on one shard.
fn run(test: impl Future<Output = ()> + 'static) {
    let limited = async { timeout(PATIENCE, test).await.expect("it ends in time") };
    Builder::new_current_thread().run(limited).unwrap();
}

#[test]
fn a_write_of_two_gibibytes_or_more_writes_a_part_of_it() {
    run(async {
        let (near, _far) = UnixStream::pair().unwrap();
        for length in [TWO_GIB - 1, TWO_GIB, TWO_GIB + 4097] {
            let (near, far) = UnixStream::pair().unwrap();
            let (count, buffer) = near.write_owned(vec![0u8; length]).await.unwrap();
            assert!((1..length).contains(&count), "{count} of {length} bytes");
            assert_eq!(buffer.len(), length);
            drop(far);
        }
        let halves = vec![vec![0u8; TWO_GIB], vec![0u8; TWO_GIB]];
        let (count, halves) = near.write_vectored_owned(halves).await.unwrap();
        assert!((1..TWO_GIB).contains(&count), "{count} bytes");
        assert_eq!(halves.len(), 2);
    });
}

#[test]
fn a_read_into_two_gibibytes_or_more_brings_what_is_there() {
    run(async {
        let (near, far) = UnixStream::pair().unwrap();
        for capacity in [TWO_GIB - 1, TWO_GIB, 5 << 30] {
            far.write_all_owned("hi").await.unwrap();
            let (count, buffer) = near.read_owned(Vec::with_capacity(capacity)).await.unwrap();
            assert_eq!((count, &buffer[..]), (2, &b"hi"[..]));
        }
    });
}

#[test]
fn a_send_of_two_gibibytes_without_a_copy_begins() {
    if !limits::is_root() {
        let why = "the kernel pins all that is sent, and a user may not lock so much";
        return skip("a_send_of_two_gibibytes_without_a_copy_begins", why);
    }
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let peer = thread::spawn(move || {
            let mut peer = std::net::TcpStream::connect(address).unwrap();
            peer.read_exact(&mut [1; 1 << 20]).unwrap();
        });
        let (stream, _) = listener.accept().await.unwrap();
        match stream.send_zero_copy(vec![0u8; TWO_GIB]).await {
            Ok((count, _sending)) => assert!(count >= 1 << 20, "{count} bytes"),
            Err(failed) => {
                let gone = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
                assert!(gone.contains(&failed.error.kind()), "{:?}", failed.error);
            }
        }
        peer.join().unwrap();
    });
}

#[test]
fn a_datagram_of_two_gibibytes_is_too_long() {
    run(async {
        let (near, _far) = UnixDatagram::pair().unwrap();
        let error = near.send(&vec![0; TWO_GIB]).await.unwrap_err();
        assert!([Some(libc::EMSGSIZE), Some(libc::ENOBUFS)].contains(&error.raw_os_error()));
    });
}

/// A stream whose peer is gone, which has told of it once already.
async fn a_reset_stream() -> TcpStream {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let peer = TcpStream::from_std(listener.accept().unwrap().0).unwrap();
    peer.set_zero_linger().unwrap();
    drop(peer);
    loop {
        let _ = stream.readable().await;
        match stream.try_read(&mut [0; 1]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            outcome => {
                outcome.unwrap_err();
                return stream;
            }
        }
    }
}

#[test]
fn no_write_of_a_stream_raises_sigpipe() {
    isolated("no_write_of_a_stream_raises_sigpipe").run(|| {
        // SAFETY: it sets an action that is no function of ours.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        run(async {
            let stream = a_reset_stream().await;
            let broken = |error: std::io::Error| assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            broken(stream.write_owned("a").await.unwrap_err().error);
            broken(stream.write_all_owned("a").await.unwrap_err().error);
            broken(stream.write_vectored_owned(vec!["a", "b"]).await.unwrap_err().error);
            for _ in 0..2 {
                let mut lease = buffers::lease(4096).await.unwrap();
                lease.extend_from_slice(b"a");
                broken(stream.write_fixed(lease).await.unwrap_err().error);
                let mut lease = buffers::lease(4096).await.unwrap();
                lease.extend_from_slice(b"a");
                broken(stream.write_all_fixed(lease).await.unwrap_err().error);
            }
            broken(stream.send_zero_copy("a").await.unwrap_err().error);
            broken(stream.try_write(b"a").unwrap_err());
            let mut stream = stream;
            broken(stream.write_all(b"a").await.unwrap_err());
            let parts = [std::io::IoSlice::new(b"a"), std::io::IoSlice::new(b"b")];
            broken(stream.write_vectored(&parts).await.unwrap_err());
        });
    });
}

/// Whether the kernel writes to pipes without the signal, which it does since Linux 6.18.
fn pipes_need_not_signal() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 18)
}

#[test]
fn no_write_to_a_child_raises_sigpipe() {
    if !pipes_need_not_signal() {
        return skip("no_write_to_a_child_raises_sigpipe", "Linux is older than 6.18");
    }
    isolated("no_write_to_a_child_raises_sigpipe").run(|| {
        // SAFETY: it sets an action that is no function of ours.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        run(async {
            let mut child =
                Command::new("true").stdin(std::process::Stdio::piped()).spawn().unwrap();
            let mut input = child.stdin.take().unwrap();
            assert!(child.wait().await.unwrap().success());
            let error = input.write_all(b"a").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        });
    });
}

/// Binds a socket to a path of 108 bytes: all the room that an address has, without a NUL.
fn bind_to_all_the_room(socket: &StdDatagram, path: &Path) {
    let bytes = path.as_os_str().as_encoded_bytes();
    // SAFETY: an address is made of integers, for which zero is a value.
    let mut address = unsafe { std::mem::zeroed::<libc::sockaddr_un>() };
    assert_eq!(bytes.len(), address.sun_path.len());
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: it reads an address of ours, as long as it is, during the call.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    assert_eq!(bound, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_peer_s_path_of_all_the_room_is_shown_whole_and_has_no_name_in_std() {
    run(async {
        let directory = tempfile::Builder::new().prefix("r").tempdir_in("/tmp").unwrap();
        let ours = directory.path().join("ours");
        let mut long = directory.path().join("x").into_os_string();
        while long.len() < 108 {
            long.push("y");
        }
        let socket = UnixDatagram::bind(&ours).unwrap();
        let peer = StdDatagram::unbound().unwrap();
        bind_to_all_the_room(&peer, Path::new(&long));
        peer.send_to(b"hello", &ours).unwrap();
        let (count, from) = socket.recv_from(&mut [0; 9]).await.unwrap();
        assert_eq!((count, from.as_pathname()), (5, Some(Path::new(&long))));
        assert!(StdAddress::from(from).is_unnamed());
    });
}
