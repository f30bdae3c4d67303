//! The load: one message of each connection on its way, by epoll, from one thread.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::epoll;

use super::MESSAGE_BYTES;
use crate::load::Load;
use crate::meter::{Histogram, Meter, Sample, cpu_time_of};
use crate::rounds::pin_to;

/// An answer that takes longer never comes.
const PATIENCE: Duration = Duration::from_secs(10);

struct Connection {
    stream: TcpStream,
    /// How much of the answer has come.
    received: usize,
    sent_at: Instant,
    number: u64,
    /// How many messages it has carried.
    carried: u64,
}

impl Connection {
    fn send(&mut self) -> io::Result<()> {
        self.number += 1;
        self.carried += 1;
        self.received = 0;
        let mut message = [0; MESSAGE_BYTES];
        message[..8].copy_from_slice(&self.number.to_le_bytes());
        // A message always fits: the one before it was answered.
        self.stream.write_all(&message)
    }

    /// Whether the answer is there.
    fn receive(&mut self) -> io::Result<bool> {
        let mut message = [0; MESSAGE_BYTES];
        let count = match self.stream.read(&mut message[self.received..]) {
            Ok(0) => return Err(io::Error::other("the server has closed a connection")),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        if self.received == 0 && count >= 8 {
            let number = u64::from_le_bytes(message[..8].try_into().expect("eight bytes"));
            assert_eq!(number, self.number, "an answer to another message");
        }
        self.received += count;
        Ok(self.received == MESSAGE_BYTES)
    }
}

struct Driver {
    epoll: rustix::fd::OwnedFd,
    address: SocketAddr,
    /// How many messages a connection carries, if it doesn't carry all.
    messages: Option<u64>,
    /// How many connections were made.
    made: u32,
    connections: Vec<Connection>,
    events: Vec<epoll::Event>,
}

/// Connects, warms up, and measures. The CPU time is that of the process `server`.
pub fn run(address: SocketAddr, server: u32, load: &Load, cpu: usize) -> io::Result<Sample> {
    pin_to(cpu)?;
    let mut driver = Driver::connect(address, load)?;
    driver.exchange(load.warm_up_ops, &Histogram::new())?;
    let latencies = Histogram::new();
    let cpu_before = cpu_time_of(server)?;
    let meter = Meter::start();
    driver.exchange(load.ops, &latencies)?;
    let mut sample = meter.stop(load.ops, Some(&latencies));
    sample.cpu_ns = (cpu_time_of(server)? - cpu_before).as_nanos() as u64;
    Ok(sample)
}

impl Driver {
    fn connect(address: SocketAddr, load: &Load) -> io::Result<Driver> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let connections = Vec::with_capacity(load.tasks);
        let events = Vec::with_capacity(load.tasks.max(1));
        let messages = load.messages;
        let mut driver = Driver { epoll, address, messages, made: 0, connections, events };
        for index in 0..load.tasks {
            let stream = driver.new_stream(index)?;
            let sent_at = Instant::now();
            let made = Connection { stream, received: 0, sent_at, number: 0, carried: 0 };
            driver.connections.push(made);
        }
        Ok(driver)
    }

    fn new_stream(&mut self, index: usize) -> io::Result<TcpStream> {
        // The ports of one address would soon all belong to connections that have just ended.
        let mut address = self.address;
        if address.ip().is_unspecified() {
            let last = 1 + (self.made % 200) as u8;
            address.set_ip(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)));
        }
        self.made += 1;
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&self.epoll, &stream, data, epoll::EventFlags::IN)?;
        Ok(stream)
    }

    /// Sends the next message of a connection, or the first one of another in its place.
    fn send(&mut self, index: usize) -> io::Result<()> {
        self.connections[index].sent_at = Instant::now();
        if self.messages.is_some_and(|most| self.connections[index].carried >= most) {
            let stream = self.new_stream(index)?;
            let connection = &mut self.connections[index];
            connection.stream = stream;
            connection.carried = 0;
        }
        self.connections[index].send()
    }

    /// Sends and receives `messages`, spread over all connections.
    fn exchange(&mut self, messages: u64, latencies: &Histogram) -> io::Result<()> {
        let mut to_send = messages;
        let mut to_receive = messages;
        for index in 0..self.connections.len().min(messages as usize) {
            self.send(index)?;
            to_send -= 1;
        }
        let patience = rustix::event::Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        while to_receive > 0 {
            self.events.reserve(self.connections.len());
            let room = rustix::buffer::spare_capacity(&mut self.events);
            if epoll::wait(&self.epoll, room, Some(&patience))? == 0 {
                let seconds = PATIENCE.as_secs();
                return Err(io::Error::other(format!("no answer for {seconds} s")));
            }
            for event in std::mem::take(&mut self.events) {
                let index = event.data.u64() as usize;
                let connection = &mut self.connections[index];
                if !connection.receive()? {
                    continue;
                }
                latencies.record(connection.sent_at.elapsed());
                to_receive -= 1;
                if to_send > 0 {
                    self.send(index)?;
                    to_send -= 1;
                }
            }
        }
        Ok(())
    }
}
