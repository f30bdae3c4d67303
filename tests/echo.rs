//! The example `echo` sends back what each of its clients sends, on all of its shards.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use common::server::Server;
use rustix::process::{Pid, Signal, kill_process};

fn start(configure: impl FnOnce(&mut Command)) -> Server {
    Server::start("echo", |command| {
        command.arg("127.0.0.1:0");
        configure(command);
    })
}

/// What a client sends, so that no two send the same.
fn bytes_of(client: u32) -> Vec<u8> {
    (0..100_000).map(|index: u32| (index.wrapping_mul(31) + client) as u8).collect()
}

#[test]
fn fifty_clients_get_back_what_they_send() {
    let server = start(|_| {});
    thread::scope(|scope| {
        for client in 0..50 {
            let mut reader = server.connect();
            scope.spawn(move || {
                let sent = bytes_of(client);
                let mut writer = reader.try_clone().unwrap();
                let expected = sent.clone();
                let writing = thread::spawn(move || {
                    writer.write_all(&sent).unwrap();
                    writer.shutdown(Shutdown::Write).unwrap();
                });
                let mut received = Vec::new();
                reader.read_to_end(&mut received).unwrap();
                writing.join().unwrap();
                assert!(received == expected, "client {client}: {} bytes", received.len());
            });
        }
    });
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody_else() {
    let server = start(|_| {});
    let mut slow: Vec<TcpStream> = (0..8).map(|_| server.connect()).collect();
    for stream in &mut slow {
        stream.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
        // As much as is taken; then the server reads no more of it.
        while stream.write(&[1; 65_536]).is_ok() {}
    }
    for _ in 0..8 {
        let mut quick = server.connect();
        quick.write_all(b"hello").unwrap();
        let mut answer = [0; 5];
        quick.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"hello");
    }
}

#[test]
fn with_few_descriptors_everybody_is_served_in_the_end() {
    let server = start(|command| {
        // Of 40, the two shards and their listeners have some twenty themselves.
        let program = command.get_program().to_owned();
        let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        *command = Command::new("sh");
        command.args(["-c", "ulimit -n 40; exec \"$0\" \"$@\""]).arg(program).args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    });
    let address = server.address;
    let clients: Vec<_> = (0..60u8)
        .map(|client| {
            thread::spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                stream.write_all(&[client; 100]).unwrap();
                let mut answer = [0; 100];
                stream.read_exact(&mut answer).unwrap();
                assert_eq!(answer, [client; 100]);
                // Kept for a moment, so that the others find no descriptor.
                thread::sleep(Duration::from_millis(20));
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    let errors = server.end();
    assert!(errors.contains("accepting pauses: Too many open files"), "{errors:?}");
}

#[test]
fn ctrl_c_ends_it_with_a_client_connected() {
    let mut server = start(|_| {});
    let mut client = server.connect();
    client.write_all(b"hello").unwrap();
    client.read_exact(&mut [0; 5]).unwrap();
    let process = Pid::from_child(&server.child);
    kill_process(process, Signal::INT).unwrap();
    assert!(server.child.wait().unwrap().success());
    // The connection ends, and not by a reset: everything that was sent was read.
    assert_eq!(client.read(&mut [0; 5]).unwrap(), 0);
}
