//! The examples that are servers, for tests that are their clients.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::MutexGuard;
use std::time::Duration;

use super::{example, turn_of_the_user};

/// A server that is killed when it is dropped.
pub struct Server {
    pub child: Child,
    pub address: SocketAddr,
    _turn: Option<MutexGuard<'static, ()>>,
}

impl Server {
    /// Starts an example with two shards at a port of its own, and waits until it listens.
    pub fn start(name: &str, configure: impl FnOnce(&mut Command)) -> Server {
        let turn = turn_of_the_user();
        let mut command = Command::new(example::binary(name));
        command.args(["--shards", "2"]).stdout(Stdio::piped());
        configure(&mut command);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!((words[0], words[3], words[4]), ("listening", "on", "2"), "{line}");
        Server { child, address: words[2].parse().unwrap(), _turn: turn }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Ends it, and gives what it said of errors.
    pub fn end(mut self) -> String {
        let mut errors = self.child.stderr.take().expect("it is piped");
        drop(self);
        let mut text = String::new();
        errors.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("the server was running");
    }
}
