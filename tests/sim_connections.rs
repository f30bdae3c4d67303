//! The simulated network: what connections and datagrams are when everything is well, and what
//! becomes of them when something isn't.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Duration;

use ringhold_sim::{
    Failure, Faults, HostConfig, HostId, Link, Simulation, What, disk::DiskConfig, for_each_seed,
    seeds,
};
use runtime::io::{AsyncReadExt, AsyncWriteExt};
use runtime::net::{
    TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream, lookup_host,
};
use runtime::time::{Instant, sleep, timeout};

const PORT: u16 = 80;

fn two_hosts(seed: u64) -> (Simulation, HostId, HostId) {
    let mut simulation = Simulation::new(seed);
    let [server, client] = ["server", "client"].map(|name| simulation.host(HostConfig::new(name)));
    (simulation, server, client)
}

/// Sends back what comes, connection by connection, for ever.
async fn echo() -> io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        runtime::spawn_local(async move {
            let mut buffer = vec![0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                if stream.write_all(&buffer[..count]).await.is_err() {
                    break;
                }
            }
        });
    }
}

async fn call(stream: &mut TcpStream, text: &str) -> io::Result<()> {
    stream.write_all(text.as_bytes()).await?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).await?;
    assert_eq!(answer, text.as_bytes());
    Ok(())
}

/// Runs until the client's service has ended.
fn run_client<F>(
    simulation: &mut Simulation,
    client: HostId,
    service: impl FnMut() -> F + 'static,
) -> Result<(), Failure>
where
    F: Future<Output = io::Result<()>> + 'static,
{
    simulation.start(client, service);
    simulation.run_until(|simulation| !simulation.is_running(client))
}

#[test]
fn a_connection_carries_bytes_both_ways_until_it_is_closed() {
    let (mut simulation, server, client) = two_hosts(1);
    simulation.start(server, echo);
    run_client(&mut simulation, client, || async {
        sleep(Duration::from_millis(1)).await;
        let mut stream = TcpStream::connect(("server", PORT)).await?;
        assert_eq!(stream.peer_addr()?.to_string(), "10.0.0.1:80");
        assert_eq!(stream.local_addr()?.ip().to_string(), "10.0.0.2");
        for number in 0..100 {
            call(&mut stream, &format!("request {number}")).await?;
        }
        stream.shutdown().await?;
        let mut rest = Vec::new();
        assert_eq!(stream.read_to_end(&mut rest).await?, 0);
        Ok(())
    })
    .unwrap();
    let arrived = simulation.trace();
    let connections = arrived
        .events()
        .filter(|event| matches!(event.what, What::Arrived { from: 1, what: "open", .. }));
    assert_eq!(connections.count(), 1);
}

#[test]
fn nobody_listening_refuses_and_a_host_without_power_says_nothing() {
    let (mut simulation, server, client) = two_hosts(2);
    let kind = Rc::new(Cell::new(None));
    let attempt = |simulation: &mut Simulation| {
        let noted = kind.clone();
        run_client(simulation, client, move || {
            let noted = noted.clone();
            async move {
                // By one address: a name has two, and each is tried for as long.
                let connected = TcpStream::connect(("10.0.0.1", PORT)).await;
                noted.set(connected.err().map(|error| error.kind()));
                Ok(())
            }
        })
        .unwrap();
        kind.take()
    };
    assert_eq!(attempt(&mut simulation), Some(ErrorKind::ConnectionRefused));
    simulation.start(server, echo);
    simulation.run_for(Duration::from_secs(1)).unwrap();
    simulation.kill(server);
    assert_eq!(attempt(&mut simulation), Some(ErrorKind::ConnectionRefused));
    let begin = simulation.elapsed();
    simulation.lose_power(server);
    assert_eq!(attempt(&mut simulation), Some(ErrorKind::TimedOut));
    let took = simulation.elapsed() - begin;
    assert!((127..128).contains(&took.as_secs()), "{took:?}");
}

#[test]
fn a_connection_whose_other_end_lost_power_is_reset_when_it_is_on_again() {
    let (mut simulation, server, client) = two_hosts(3);
    simulation.start(server, echo);
    let is_half_open = Rc::new(Cell::new(false));
    let noted = is_half_open.clone();
    simulation.start(client, move || {
        let is_half_open = noted.clone();
        async move {
            sleep(Duration::from_millis(1)).await;
            let mut stream = TcpStream::connect(("server", PORT)).await?;
            call(&mut stream, "before").await?;
            is_half_open.set(true);
            // Nobody says that the other end is gone.
            let mut byte = [0];
            assert!(timeout(Duration::from_secs(3600), stream.read(&mut byte)).await.is_err());
            stream.write_all(b"after").await?;
            let error = stream.read(&mut byte).await.expect_err("the connection is not known");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            assert_eq!(stream.read(&mut byte).await?, 0);
            let error = stream.write(b"more").await.expect_err("the connection is gone");
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            Ok::<(), io::Error>(())
        }
    });
    simulation.run_until(|_| is_half_open.get()).unwrap();
    simulation.lose_power(server);
    simulation.run_for(Duration::from_secs(3000)).unwrap();
    simulation.restart(server);
    simulation.run_until(|simulation| !simulation.is_running(client)).unwrap();
}

#[test]
fn what_was_sent_while_a_way_was_cut_arrives_when_it_is_mended() {
    for (seed, both) in [(4, false), (5, true)] {
        let (mut simulation, server, client) = two_hosts(seed);
        simulation.start(server, echo);
        let answered = Rc::new(Cell::new(0));
        let noted = answered.clone();
        simulation.start(client, move || {
            let answered = noted.clone();
            async move {
                sleep(Duration::from_millis(1)).await;
                let mut stream = TcpStream::connect(("server", PORT)).await?;
                for number in 0..200 {
                    call(&mut stream, &format!("request {number}")).await?;
                    answered.set(number + 1);
                }
                Ok::<(), io::Error>(())
            }
        });
        simulation.run_until(|_| answered.get() == 50).unwrap();
        simulation.cut(server, client);
        if both {
            simulation.cut(client, server);
        }
        simulation.run_for(Duration::from_secs(60)).unwrap();
        // One that was on its way as the way was cut may have arrived.
        assert!((50..=51).contains(&answered.get()), "{}", answered.get());
        simulation.mend_all();
        simulation.run_until(|simulation| !simulation.is_running(client)).unwrap();
        assert_eq!(answered.get(), 200);
    }
}

#[test]
fn who_sends_into_a_cut_for_too_long_gives_up() {
    let (mut simulation, server, client) = two_hosts(6);
    simulation.start(server, echo);
    let connected = Rc::new(Cell::new(false));
    let noted = connected.clone();
    simulation.start(client, move || {
        let connected = noted.clone();
        async move {
            sleep(Duration::from_millis(1)).await;
            let mut stream = TcpStream::connect(("server", PORT)).await?;
            connected.set(true);
            sleep(Duration::from_secs(1)).await;
            let begin = Instant::now();
            stream.write_all(b"into the void").await?;
            let error = stream.read(&mut [0]).await.expect_err("nothing gets there");
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert!((924..926).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
            Ok::<(), io::Error>(())
        }
    });
    simulation.run_until(|_| connected.get()).unwrap();
    simulation.partition(&[server], &[client]);
    simulation.run_until(|simulation| !simulation.is_running(client)).unwrap();
}

#[test]
fn a_receiver_that_does_not_read_lets_its_sender_wait() {
    let (mut simulation, server, client) = two_hosts(7);
    simulation.start(server, || async {
        let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
        let (mut stream, _) = listener.accept().await?;
        sleep(Duration::from_secs(100)).await;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        assert_eq!(bytes.len(), 1 << 20);
        assert!(bytes.iter().enumerate().all(|(index, byte)| *byte == (index / 1000) as u8));
        Ok::<(), io::Error>(())
    });
    run_client(&mut simulation, client, || async {
        sleep(Duration::from_millis(1)).await;
        let mut stream = TcpStream::connect(("server", PORT)).await?;
        let bytes: Vec<u8> = (0..1 << 20).map(|index: usize| (index / 1000) as u8).collect();
        let begin = Instant::now();
        let mut sent = 0;
        while let Ok(count) = timeout(Duration::from_secs(50), stream.write(&bytes[sent..])).await {
            sent += count?;
        }
        assert!(begin.elapsed() >= Duration::from_secs(50), "it never had to wait");
        assert!((1 << 16..1 << 18).contains(&sent), "{sent} bytes found room");
        stream.write_all(&bytes[sent..]).await
    })
    .unwrap();
    simulation.run().unwrap();
}

#[test]
fn a_reset_is_told_at_both_ends_after_what_came_before_it() {
    let (mut simulation, server, client) = two_hosts(8);
    let ready = Rc::new(Cell::new(0));
    let noted = ready.clone();
    simulation.start(server, move || {
        let ready = noted.clone();
        async move {
            let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
            let (mut stream, _) = listener.accept().await?;
            stream.write_all(b"first").await?;
            ready.set(ready.get() + 1);
            let error = stream.read(&mut [0]).await.expect_err("it is reset");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            Ok::<(), io::Error>(())
        }
    });
    let noted = ready.clone();
    simulation.start(client, move || {
        let ready = noted.clone();
        async move {
            sleep(Duration::from_millis(1)).await;
            let mut stream = TcpStream::connect(("server", PORT)).await?;
            ready.set(ready.get() + 1);
            sleep(Duration::from_secs(10)).await;
            let mut bytes = [0; 16];
            assert_eq!(stream.read(&mut bytes).await?, 5);
            let error = stream.read(&mut bytes).await.expect_err("it is reset");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            Ok::<(), io::Error>(())
        }
    });
    simulation.run_until(|_| ready.get() == 2).unwrap();
    simulation.run_for(Duration::from_secs(1)).unwrap();
    simulation.reset_connections(server);
    simulation.run().unwrap();
}

#[test]
fn a_full_queue_lets_connections_wait_until_there_is_room() {
    let (mut simulation, server, client) = two_hosts(9);
    simulation.start(server, || async {
        let socket = runtime::net::TcpSocket::new_v4()?;
        socket.bind(([0, 0, 0, 0], PORT).into())?;
        let listener = socket.listen(2)?;
        for _ in 0..10 {
            sleep(Duration::from_secs(3)).await;
            let (mut stream, _) = listener.accept().await?;
            stream.write_all(b"!").await?;
        }
        Ok::<(), io::Error>(())
    });
    run_client(&mut simulation, client, || async {
        sleep(Duration::from_millis(1)).await;
        let mut served = runtime::task::JoinSet::new();
        for _ in 0..10 {
            served.spawn(async {
                let mut stream = TcpStream::connect(("server", PORT)).await?;
                stream.read_u8().await
            });
        }
        while let Some(answer) = served.join_next().await {
            assert_eq!(answer.expect("no task panics")?, b'!');
        }
        Ok(())
    })
    .unwrap();
    simulation.run().unwrap();
}

#[test]
fn a_full_table_of_descriptors_is_told_and_loses_no_connection() {
    let mut simulation = Simulation::new(10);
    let disk = DiskConfig { descriptors_max: 8, ..DiskConfig::default() };
    let server = simulation.host(HostConfig::new("server").disk(disk));
    let client = simulation.host(HostConfig::new("client"));
    simulation.start(server, || async {
        let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
        let mut streams = Vec::new();
        let (mut accepted, mut refused) = (0, 0);
        while accepted < 20 {
            match listener.accept().await {
                Ok((stream, _)) => {
                    accepted += 1;
                    streams.push(stream);
                }
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                    refused += 1;
                    // Room for others.
                    for mut stream in streams.drain(..) {
                        stream.write_all(b"!").await?;
                    }
                    sleep(Duration::from_millis(10)).await;
                }
            }
        }
        for mut stream in streams {
            stream.write_all(b"!").await?;
        }
        assert!(refused > 0);
        Ok::<(), io::Error>(())
    });
    run_client(&mut simulation, client, || async {
        sleep(Duration::from_millis(1)).await;
        let mut served = runtime::task::JoinSet::new();
        for _ in 0..20 {
            served.spawn(async {
                let mut stream = TcpStream::connect(("server", PORT)).await?;
                stream.read_u8().await
            });
        }
        while let Some(answer) = served.join_next().await {
            assert_eq!(answer.expect("no task panics")?, b'!');
        }
        Ok(())
    })
    .unwrap();
}

/// Sends a thousand numbered datagrams over the link, and gives those that arrived, in their order.
fn datagrams_over(link: Link, seed: u64) -> Vec<u32> {
    let (mut simulation, server, client) = two_hosts(seed);
    simulation.set_link(client, server, link);
    let arrived = Rc::new(RefCell::new(Vec::new()));
    let noted = arrived.clone();
    simulation.start(server, move || {
        let arrived = noted.clone();
        async move {
            let socket = UdpSocket::bind(("0.0.0.0", PORT)).await?;
            let mut bytes = [0; 16];
            let second = Duration::from_secs(1);
            while let Ok(received) = timeout(second, socket.recv_from(&mut bytes)).await {
                let (count, from) = received?;
                assert_eq!((count, from.ip().to_string().as_str()), (4, "10.0.0.2"));
                let number = bytes[..4].try_into().expect("four bytes");
                arrived.borrow_mut().push(u32::from_le_bytes(number));
            }
            Ok::<(), io::Error>(())
        }
    });
    run_client(&mut simulation, client, || async {
        let socket = UdpSocket::bind(("0.0.0.0", 0)).await?;
        let server = lookup_host(("server", PORT)).await?.next().expect("it has an address");
        sleep(Duration::from_millis(1)).await;
        for number in 0..1000_u32 {
            socket.send_to(&number.to_le_bytes(), server).await?;
            sleep(Duration::from_micros(20)).await;
        }
        Ok(())
    })
    .unwrap();
    simulation.run().unwrap();
    arrived.take()
}

#[test]
fn datagrams_are_lost_and_late_as_their_link_says() {
    let latency = Duration::from_micros(50);
    let all = datagrams_over(Link::new(latency), 11);
    assert_eq!(all.len(), 1000);
    let some = datagrams_over(Link::new(latency).loss(0.2), 12);
    assert!((700..900).contains(&some.len()), "{} arrived", some.len());
    let late = datagrams_over(Link::new(latency).late(0.1), 13);
    assert_eq!(late.len(), 1000);
    assert!(!late.is_sorted(), "none was overtaken");
}

#[test]
fn a_connected_datagram_socket_is_told_that_nobody_is_there() {
    let (mut simulation, _, client) = two_hosts(14);
    run_client(&mut simulation, client, || async {
        let socket = UdpSocket::bind(("0.0.0.0", 0)).await?;
        socket.connect(("server", PORT)).await?;
        socket.send(b"anybody?").await?;
        let error = socket.recv(&mut [0; 8]).await.expect_err("nobody is");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        Ok(())
    })
    .unwrap();
}

#[test]
fn unix_sockets_connect_within_a_host_and_their_paths_are_names() {
    let (mut simulation, host, _) = two_hosts(15);
    simulation.start(host, || async {
        let listener = UnixListener::bind("/socket")?;
        let taken = UnixListener::bind("/socket").expect_err("the path is taken");
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        let mut client = UnixStream::connect("/socket").await?;
        let (mut server, _) = listener.accept().await?;
        client.write_all(b"by path").await?;
        let mut bytes = [0; 7];
        server.read_exact(&mut bytes).await?;
        assert_eq!(&bytes, b"by path");
        drop(listener);
        let refused = UnixStream::connect("/socket").await.expect_err("nobody listens");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        runtime::fs::remove_file("/socket").await?;
        let missing = UnixStream::connect("/socket").await.expect_err("it has no name");
        assert_eq!(missing.kind(), ErrorKind::NotFound);

        let (mut one, mut other) = UnixStream::pair()?;
        one.write_all(b"pair").await?;
        drop(one);
        let mut bytes = Vec::new();
        other.read_to_end(&mut bytes).await?;
        assert_eq!(bytes, b"pair");

        let (one, other) = UnixDatagram::pair()?;
        one.send(b"whole").await?;
        one.send(b"or not at all").await?;
        let mut bytes = [0; 32];
        assert_eq!(other.recv(&mut bytes).await?, 5);
        assert_eq!(other.recv(&mut bytes).await?, 13);
        Ok::<(), io::Error>(())
    });
    simulation.run().unwrap();
}

/// Clients that number what they send, and a server that drops its accepts and its reads.
fn drop_accepts_and_reads(seed: u64) -> Result<u64, Failure> {
    const CLIENTS: u32 = 8;
    const RECORDS: u64 = 40;
    let mut simulation = Simulation::new(seed);
    let mut dice = fastrand::Rng::with_seed(seed);
    let config = |name: &str, dice: &mut fastrand::Rng| {
        let rings = if dice.bool() { (2, 4) } else { (256, 512) };
        let faults = if dice.bool() { Faults::harmless() } else { Faults::none() };
        let shards = dice.usize(1..3);
        HostConfig::new(name).shards(shards).ring_entries(rings.0, rings.1).faults(faults)
    };
    let server = simulation.host(config("server", &mut dice));
    let client = simulation.host(config("client", &mut dice));
    let latency = Duration::from_micros(dice.u64(1..400));
    let link = Link::new(latency).loss(0.01);
    simulation.set_link(client, server, link);
    let of_server = dice.fork();
    simulation.start(server, move || {
        let mut dice = of_server.clone();
        async move {
            let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
            let mut served = runtime::task::JoinSet::new();
            while served.len() < CLIENTS as usize {
                let patience = Duration::from_micros(dice.u64(..200));
                let Ok(accepted) = timeout(patience, listener.accept()).await else { continue };
                let (stream, _) = accepted?;
                served.spawn(read_records(stream, dice.fork(), RECORDS));
            }
            while let Some(ended) = served.join_next().await {
                ended.map_err(io::Error::other)??;
            }
            Ok::<(), io::Error>(())
        }
    });
    simulation.start(client, move || async move {
        sleep(Duration::from_millis(1)).await;
        let mut calling = runtime::task::JoinSet::new();
        for _ in 0..CLIENTS {
            calling.spawn(async {
                let mut stream = TcpStream::connect(("server", PORT)).await?;
                for number in 0..RECORDS {
                    stream.write_all(&number.to_le_bytes()).await?;
                }
                stream.shutdown().await?;
                let answer = stream.read_u8().await?;
                assert_eq!(answer, b'!');
                Ok::<(), io::Error>(())
            });
        }
        while let Some(ended) = calling.join_next().await {
            ended.map_err(io::Error::other)??;
        }
        Ok::<(), io::Error>(())
    });
    simulation.run()?;
    Ok(simulation.trace().hash())
}

/// Reads numbers that must follow each other, by reads of which most are dropped.
async fn read_records(
    mut stream: TcpStream,
    mut dice: fastrand::Rng,
    records: u64,
) -> io::Result<()> {
    let mut pending = Vec::new();
    let mut next = 0;
    loop {
        let mut buffer = vec![0; dice.usize(1..32)];
        let patience = Duration::from_micros(dice.u64(..300));
        let Ok(count) = timeout(patience, stream.read(&mut buffer)).await else { continue };
        match count? {
            0 => break,
            count => pending.extend_from_slice(&buffer[..count]),
        }
        while pending.len() >= 8 {
            let number: Vec<u8> = pending.drain(..8).collect();
            assert_eq!(u64::from_le_bytes(number.try_into().expect("eight bytes")), next);
            next += 1;
        }
    }
    assert_eq!((next, pending.len()), (records, 0));
    stream.write_all(b"!").await
}

#[test]
fn dropped_accepts_and_dropped_reads_lose_nothing_whatever_the_seed() {
    for_each_seed(seeds(100), |seed| drop_accepts_and_reads(seed).map(drop));
}

#[test]
fn the_same_seed_gives_the_same_trace_of_a_network() {
    for_each_seed(seeds(10), |seed| {
        assert_eq!(drop_accepts_and_reads(seed)?, drop_accepts_and_reads(seed)?, "seed {seed}");
        Ok(())
    });
}
