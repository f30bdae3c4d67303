//! What is dropped is closed when the drop returns: on its own shard, on another and on a thread
//! that is no shard, while the shard that used it is idle and while it computes. And a descriptor
//! is not the file: what others have of it goes on.
//!
//! `RINGHOLD_CLOSES` sets how often each is tried.

#![allow(unsafe_code)] // Locks and mounts.

mod common;

use std::ffi::{CStr, CString};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net as std_unix;
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{count, isolated, skip};
use runtime::Builder;
use runtime::fs::{File, OpenOptions};
use runtime::io::{AsyncReadExt, AsyncWriteExt};
use runtime::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use runtime::process::{ChildStdin, ChildStdout};
use runtime::sync::oneshot;
use runtime::time::timeout;

/// How long a shard computes while something of its is dropped elsewhere, at most.
const COMPUTES: Duration = Duration::from_secs(5);

/// A wait that is given up.
const MOMENT: Duration = Duration::from_millis(2);

/// Where it is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    ItsShard,
    AnotherShard,
    Thread,
}

const EVERYWHERE: [(Place, bool); 5] = [
    (Place::ItsShard, false),
    (Place::AnotherShard, false),
    (Place::AnotherShard, true),
    (Place::Thread, false),
    (Place::Thread, true),
];

/// Looks right after the drop whether it is closed.
type Check = Box<dyn FnOnce() + Send>;

/// Makes something on shard 1, drops it at each place, and looks there at once whether it is
/// closed. Where the second part of the place says so, shard 1 computes meanwhile.
fn is_closed_everywhere<T, M, F>(by_default: u32, make: M)
where
    T: Send + 'static,
    M: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = (T, Check)> + 'static,
{
    is_closed_at(&EVERYWHERE, by_default, make);
}

fn is_closed_at<T, M, F>(places: &'static [(Place, bool)], by_default: u32, make: M)
where
    T: Send + 'static,
    M: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = (T, Check)> + 'static,
{
    let times = count("RINGHOLD_CLOSES", by_default);
    let mut builder = Builder::new_multi_thread();
    let run = builder.shards(2).run(async move {
        for (place, computes) in places.iter().copied() {
            for time in 0..times {
                let what = format!("{place:?}, computes: {computes}, time {time}");
                let made = timeout(COMPUTES * 4, drop_at(place, computes, make.clone()));
                made.await.expect(&what).unwrap_or_else(|lost| panic!("{what}: {lost}"));
            }
        }
    });
    run.unwrap();
}

async fn drop_at<T, M, F>(place: Place, computes: bool, make: M) -> Result<(), String>
where
    T: Send + 'static,
    M: Fn() -> F + Send + 'static,
    F: Future<Output = (T, Check)> + 'static,
{
    let (give, given) = oneshot::channel();
    let is_over = Arc::new(AtomicBool::new(false));
    let over = is_over.clone();
    let maker = runtime::spawn_on(1, move || async move {
        let (thing, check) = make().await;
        if place == Place::ItsShard {
            drop(thing);
            check();
            return;
        }
        assert!(give.send((thing, check)).is_ok());
        let begun = Instant::now();
        while computes && !over.load(Ordering::Acquire) && begun.elapsed() < COMPUTES {
            std::hint::spin_loop();
        }
    });
    if let Ok((thing, check)) = given.await {
        let drop_it = move || {
            drop(thing);
            check();
        };
        let dropped = match place {
            Place::Thread => runtime::task::spawn_blocking(move || thread::spawn(drop_it).join())
                .await
                .map_err(|lost| lost.to_string())?,
            _ => std::panic::catch_unwind(std::panic::AssertUnwindSafe(drop_it)),
        };
        is_over.store(true, Ordering::Release);
        dropped.map_err(|_| "it is open after its drop".to_owned())?;
    }
    maker.await.map_err(|lost| lost.to_string())
}

/// Reads so often that the shard has the file in its table.
async fn use_often(file: &File) {
    for _ in 0..16 {
        file.read_at(vec![0; 16], 0).await.unwrap();
    }
}

#[test]
fn a_script_that_was_just_written_can_be_run() {
    // Alone: a child that another test starts would have the script open for a moment.
    let test = isolated("a_script_that_was_just_written_can_be_run");
    test.deadline(Duration::from_secs(600)).run(run_a_script);
}

fn run_a_script() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("script");
    is_closed_everywhere(4, move || {
        let path = path.clone();
        async move {
            let _ = fs::remove_file(&path);
            let mut options = OpenOptions::new();
            let mut file =
                options.read(true).write(true).create(true).mode(0o755).open(&path).await.unwrap();
            file.write_all(b"#!/bin/sh\n").await.unwrap();
            file.flush().await.unwrap();
            use_often(&file).await;
            let check = move || assert!(process::Command::new(&path).status().unwrap().success());
            (file, Box::new(check) as Check)
        }
    });
}

fn lock(file: &fs::File) -> io::Result<()> {
    // SAFETY: it points to nothing, so S1 asks nothing.
    match unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[test]
fn a_lock_is_free() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("locked");
    fs::write(&path, [7; 64]).unwrap();
    for uses in [false, true] {
        let path = path.clone();
        is_closed_everywhere(20, move || {
            let path = path.clone();
            async move {
                let locked = fs::File::open(&path).unwrap();
                lock(&locked).unwrap();
                let file = File::from_std(locked);
                if uses {
                    use_often(&file).await;
                }
                let check = move || lock(&fs::File::open(&path).unwrap()).unwrap();
                (file, Box::new(check) as Check)
            }
        });
    }
}

fn mount(on: &Path) -> bool {
    mount_of(c"tmpfs", on, c"")
}

fn mount_of(kind: &CStr, on: &Path, options: &CStr) -> bool {
    let on = CString::new(on.as_os_str().as_encoded_bytes()).unwrap();
    let options = options.as_ptr().cast();
    // SAFETY: it reads three strings of ours during the call.
    0 == unsafe { libc::mount(kind.as_ptr(), on.as_ptr(), kind.as_ptr(), 0, options) }
}

fn unmount(from: &Path) {
    let from = CString::new(from.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: it reads a string of ours during the call.
    let done = unsafe { libc::umount2(from.as_ptr(), 0) };
    let error = io::Error::last_os_error();
    // SAFETY: as above.
    unsafe { libc::umount2(from.as_ptr(), libc::MNT_DETACH) };
    assert_eq!(done, 0, "{error}");
}

#[test]
fn a_file_system_can_be_unmounted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    if !mount(&path) {
        return skip("a_file_system_can_be_unmounted", "it takes root to mount");
    }
    unmount(&path);
    is_closed_everywhere(5, move || {
        let path = path.clone();
        async move {
            assert!(mount(&path));
            fs::write(path.join("file"), "bytes").unwrap();
            let file = File::open(path.join("file")).await.unwrap();
            use_often(&file).await;
            (file, Box::new(move || unmount(&path)) as Check)
        }
    });
}

/// The file systems of containers.
#[test]
fn a_file_system_of_two_layers_can_be_unmounted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    if !mount(&path) {
        return skip("a_file_system_of_two_layers_can_be_unmounted", "it takes root to mount");
    }
    let layers = ["below", "above", "work", "merged"].map(|name| path.join(name));
    for layer in &layers {
        fs::create_dir(layer).unwrap();
    }
    let [below, above, work, merged] = layers.map(|layer| layer.to_str().unwrap().to_owned());
    let options = CString::new(format!("lowerdir={below},upperdir={above},workdir={work}"));
    let (options, merged) = (options.unwrap(), Path::new(&merged).to_owned());
    if !mount_of(c"overlay", &merged, &options) {
        unmount(&path);
        return skip("a_file_system_of_two_layers_can_be_unmounted", "there are no overlays");
    }
    unmount(&merged);
    is_closed_everywhere(5, move || {
        let (merged, options) = (merged.clone(), options.clone());
        async move {
            assert!(mount_of(c"overlay", &merged, &options));
            fs::write(merged.join("file"), "bytes").unwrap();
            let file = File::open(merged.join("file")).await.unwrap();
            use_often(&file).await;
            (file, Box::new(move || unmount(&merged)) as Check)
        }
    });
    unmount(&path);
}

#[test]
fn a_port_for_datagrams_can_be_bound() {
    for waits in [0, 1, 12] {
        is_closed_everywhere(20, move || async move {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let address = socket.local_addr().unwrap();
            for _ in 0..waits {
                let mut bytes = [0; 9];
                let mut buffer = runtime::io::ReadBuf::new(&mut bytes);
                let one = std::future::poll_fn(|cx| socket.poll_recv(cx, &mut buffer));
                assert!(timeout(MOMENT, one).await.is_err());
                socket.send_to(b"x", address).await.unwrap();
                socket.recv(&mut [0; 9]).await.unwrap();
            }
            if waits > 0 {
                assert!(timeout(MOMENT, socket.readable()).await.is_err());
                assert!(timeout(MOMENT, socket.recv(&mut [0; 9])).await.is_err());
            }
            let check = move || drop(std::net::UdpSocket::bind(address).unwrap());
            (socket, Box::new(check) as Check)
        });
    }
}

#[test]
fn a_port_for_connections_can_be_bound() {
    for waits in [0, 1, 12] {
        is_closed_everywhere(20, move || async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            for _ in 0..waits {
                assert!(timeout(MOMENT, listener.accept()).await.is_err());
                let one = std::future::poll_fn(|cx| listener.poll_accept(cx));
                assert!(timeout(MOMENT, one).await.is_err());
            }
            let check = move || drop(StdListener::bind(address).unwrap());
            (listener, Box::new(check) as Check)
        });
    }
}

#[test]
fn a_port_whose_connections_are_awaited_as_a_stream_can_be_bound() {
    is_closed_everywhere(20, move || async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut incoming = listener.into_incoming();
        assert!(timeout(MOMENT, incoming.next()).await.is_err());
        (incoming, Box::new(move || drop(StdListener::bind(address).unwrap())) as Check)
    });
}

#[test]
fn an_abstract_name_can_be_bound() {
    let name = format!("ringhold-dropped-{}", process::id());
    is_closed_everywhere(20, {
        let name = name.clone();
        move || {
            let name = name.clone();
            async move {
                let listener = UnixListener::bind(format!("\0{name}-l")).unwrap();
                let socket = UnixDatagram::bind(format!("\0{name}-d")).unwrap();
                assert!(timeout(MOMENT, listener.accept()).await.is_err());
                assert!(timeout(MOMENT, socket.recv(&mut [0; 9])).await.is_err());
                let check = move || {
                    let address = |kind| {
                        std_unix::SocketAddr::from_abstract_name(format!("{name}-{kind}")).unwrap()
                    };
                    std_unix::UnixListener::bind_addr(&address("l")).unwrap();
                    std_unix::UnixDatagram::bind_addr(&address("d")).unwrap();
                };
                ((listener, socket), Box::new(check) as Check)
            }
        }
    });
}

fn connected() -> (SocketAddr, StdListener) {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    (listener.local_addr().unwrap(), listener)
}

/// What the peer of a dropped stream reads.
fn sees_the_end(mut peer: impl Read) {
    match peer.read(&mut [0; 9]) {
        Ok(0) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        other => panic!("the peer sees {other:?}"),
    }
}

/// Does to a stream what leaves something in flight on it when it is dropped.
async fn give_up<S: runtime::io::AsyncRead + Unpin>(
    stream: &mut S,
    mut peer: impl Write,
    waits: u32,
) {
    for _ in 0..waits {
        assert!(timeout(MOMENT, stream.read(&mut [0; 9])).await.is_err());
        peer.write_all(b"x").unwrap();
        assert_eq!(stream.read(&mut [0; 9]).await.unwrap(), 1);
    }
    if waits > 0 {
        assert!(timeout(MOMENT, stream.read(&mut [0; 9])).await.is_err());
    }
}

#[test]
fn the_peer_of_a_tcp_stream_sees_the_end() {
    for waits in [0, 1, 12] {
        is_closed_everywhere(10, move || async move {
            let (address, listener) = connected();
            let mut stream = TcpStream::connect(address).await.unwrap();
            let (peer, _) = listener.accept().unwrap();
            peer.set_read_timeout(Some(COMPUTES / 5)).unwrap();
            give_up(&mut stream, &peer, waits).await;
            (stream, Box::new(move || sees_the_end(peer)) as Check)
        });
    }
}

#[test]
fn the_peer_of_a_stream_with_owned_reads_sees_the_end() {
    is_closed_everywhere(10, move || async move {
        let (address, listener) = connected();
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        peer.set_read_timeout(Some(COMPUTES / 5)).unwrap();
        for _ in 0..16 {
            peer.write_all(b"x").unwrap();
            assert_eq!(stream.read_owned(vec![0; 9]).await.unwrap().0, 1);
        }
        assert!(timeout(MOMENT, stream.read_owned(vec![0; 9])).await.is_err());
        (stream, Box::new(move || sees_the_end(peer)) as Check)
    });
}

#[test]
fn the_peer_of_a_unix_stream_sees_the_end() {
    for waits in [0, 1, 12] {
        is_closed_everywhere(10, move || async move {
            let (mut stream, peer) = UnixStream::pair().unwrap();
            let peer = peer.into_std().unwrap();
            peer.set_nonblocking(false).unwrap();
            peer.set_read_timeout(Some(COMPUTES / 5)).unwrap();
            give_up(&mut stream, &peer, waits).await;
            (stream, Box::new(move || sees_the_end(peer)) as Check)
        });
    }
}

#[test]
fn a_child_sees_the_ends_of_its_pipes() {
    // Alone: a child has all that is open for a moment, and others look whether it is.
    let test = isolated("a_child_sees_the_ends_of_its_pipes");
    test.deadline(Duration::from_secs(600)).run(end_a_child);
}

fn end_a_child() {
    is_closed_everywhere(5, move || async move {
        let script = "cat > /dev/null; echo a; sleep 0.01; echo b";
        let mut child = process::Command::new("sh")
            .args(["-c", script])
            .stdin(process::Stdio::piped())
            .stdout(process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = ChildStdin::from_std(child.stdin.take().unwrap()).unwrap();
        let mut output = ChildStdout::from_std(child.stdout.take().unwrap()).unwrap();
        input.write_all(b"x").await.unwrap();
        assert!(timeout(MOMENT, output.read(&mut [0; 9])).await.is_err());
        let check = move || {
            let begun = Instant::now();
            while child.try_wait().unwrap().is_none() {
                assert!(begun.elapsed() < COMPUTES / 2, "the child waits for its input's end");
                thread::sleep(Duration::from_millis(1));
            }
        };
        ((input, output), Box::new(check) as Check)
    });
}

#[test]
fn whoever_shares_a_listener_goes_on() {
    is_closed_everywhere(20, move || async move {
        let (address, theirs) = connected();
        let listener = TcpListener::from_std(theirs.try_clone().unwrap()).unwrap();
        assert!(timeout(MOMENT, listener.accept()).await.is_err());
        let one = std::future::poll_fn(|cx| listener.poll_accept(cx));
        assert!(timeout(MOMENT, one).await.is_err());
        let check = move || {
            let _client = StdStream::connect(address).unwrap();
            theirs.set_nonblocking(false).unwrap();
            theirs.accept().unwrap();
        };
        (listener, Box::new(check) as Check)
    });
}

#[test]
fn whoever_was_lent_a_listener_goes_on() {
    is_closed_everywhere(20, move || async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let theirs = StdListener::from(listener.as_fd().try_clone_to_owned().unwrap());
        assert!(timeout(MOMENT, listener.accept()).await.is_err());
        let check = move || {
            let _client = StdStream::connect(address).unwrap();
            theirs.set_nonblocking(false).unwrap();
            theirs.accept().unwrap();
        };
        (listener, Box::new(check) as Check)
    });
}

#[test]
fn whoever_shares_a_listener_goes_on_when_the_other_runtime_ends() {
    for _ in 0..count("RINGHOLD_CLOSES", 20) {
        let (address, theirs) = connected();
        let ours = theirs.try_clone().unwrap();
        Builder::new_current_thread()
            .run(async move {
                let listener = TcpListener::from_std(ours).unwrap();
                let accepting = runtime::spawn(async move { listener.accept().await.map(drop) });
                assert!(timeout(MOMENT, accepting).await.is_err());
            })
            .unwrap();
        let _client = StdStream::connect(address).unwrap();
        theirs.set_nonblocking(false).unwrap();
        theirs.accept().unwrap();
    }
}

#[test]
fn whoever_shares_a_stream_goes_on() {
    is_closed_everywhere(10, move || async move {
        let (address, listener) = connected();
        let mut theirs = StdStream::connect(address).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let mut stream = TcpStream::from_std(theirs.try_clone().unwrap()).unwrap();
        give_up(&mut stream, &peer, 12).await;
        let check = move || {
            theirs.set_nonblocking(false).unwrap();
            theirs.write_all(b"ping").unwrap();
            peer.read_exact(&mut [0; 4]).unwrap();
            peer.write_all(b"pong").unwrap();
            theirs.read_exact(&mut [0; 4]).unwrap();
        };
        (stream, Box::new(check) as Check)
    });
}

#[test]
fn many_streams_that_wait_are_dropped_at_once_and_all_their_peers_see_the_end() {
    let many = count("RINGHOLD_STREAMS", 2_000) as usize;
    Builder::new_current_thread()
        .run(async move {
            let mut streams = Vec::new();
            let mut peers = Vec::new();
            for _ in 0..many {
                let (mut stream, peer) = UnixStream::pair().unwrap();
                let peer = peer.into_std().unwrap();
                let read = std::future::poll_fn(|cx| {
                    let mut buffer = [0; 1];
                    let mut buffer = runtime::io::ReadBuf::new(&mut buffer);
                    let reading = std::pin::Pin::new(&mut stream);
                    assert!(
                        runtime::io::AsyncRead::poll_read(reading, cx, &mut buffer).is_pending()
                    );
                    std::task::Poll::Ready(())
                });
                read.await;
                streams.push(stream);
                peers.push(peer);
            }
            runtime::task::yield_now().await;
            let begun = Instant::now();
            drop(streams);
            let took = begun.elapsed();
            for mut peer in peers {
                assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0, "it doesn't wait");
            }
            println!("{many} streams were dropped in {took:?}");
        })
        .unwrap();
}
