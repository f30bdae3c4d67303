//! What shards hand each other: tasks, wake-ups, leases, files and connections.

use std::cell::Cell;
use std::io;
use std::sync::Arc;

use runtime::buffers;
use runtime::fs::{File, OpenOptions};
use runtime::io::{AsyncReadExt, AsyncWriteExt, send_file};
use runtime::net::{TcpListener, TcpStream};
use runtime::sync::{mpsc, oneshot};
use runtime::task::{ShardLocal, on_every_shard, spawn_balanced, spawn_local, spawn_on, yield_now};

use crate::place::{Place, read_from};
use crate::streams::{connected, pattern};

on_both_kernels! {
    tasks_run_where_they_were_sent,
    each_shard_has_a_value_of_its_own,
    wake_ups_go_there_and_back,
    a_lease_is_filled_here_written_there_and_given_back_elsewhere,
    what_one_shard_receives_another_writes,
    a_connection_is_served_by_another_shard_than_the_one_that_accepted_it,
    one_listener_is_served_by_all_shards,
    a_read_that_began_here_ends_there,
    a_file_goes_to_a_socket_of_another_shard,
}

static VALUE: ShardLocal<Cell<usize>> = ShardLocal::new(|| Cell::new(0));

async fn tasks_run_where_they_were_sent(place: Place) -> io::Result<()> {
    let mut ran = Vec::new();
    for shard in on_every_shard(|shard| async move { shard }) {
        ran.push(shard.await.unwrap());
    }
    assert_eq!(ran, (0..place.shards).collect::<Vec<_>>());
    let balanced: Vec<_> = (0..20).map(|number| spawn_balanced(async move { number })).collect();
    for (number, task) in balanced.into_iter().enumerate() {
        assert_eq!(task.await.unwrap(), number);
    }
    Ok(())
}

async fn each_shard_has_a_value_of_its_own(place: Place) -> io::Result<()> {
    for task in on_every_shard(|shard| async move { VALUE.with(|value| value.set(shard + 7)) }) {
        task.await.unwrap();
    }
    for (shard, task) in on_every_shard(|_| async { VALUE.with(Cell::get) }).into_iter().enumerate()
    {
        assert_eq!(task.await.unwrap(), shard + 7, "of {} shards", place.shards);
    }
    Ok(())
}

async fn wake_ups_go_there_and_back(place: Place) -> io::Result<()> {
    let (there, mut arrives) = mpsc::channel::<oneshot::Sender<usize>>(1);
    let answering = spawn_on(place.last_shard(), move || async move {
        let mut count = 0;
        while let Some(back) = arrives.recv().await {
            count += 1;
            let _ = back.send(count);
        }
        count
    });
    for number in 1..=100 {
        let (back, answer) = oneshot::channel();
        there.send(back).await.expect("it listens");
        assert_eq!(answer.await.expect("it answers"), number);
    }
    drop(there);
    assert_eq!(answering.await.unwrap(), 100);
    Ok(())
}

async fn a_lease_is_filled_here_written_there_and_given_back_elsewhere(
    place: Place,
) -> io::Result<()> {
    let path = place.at("file");
    for number in 0..8_u8 {
        let mut lease = buffers::lease(4096).await?;
        lease.resize(4096, number);
        let path = path.clone();
        let writing = spawn_on(place.last_shard(), move || async move {
            let mut options = OpenOptions::new();
            let file = options.write(true).create(true).truncate(true).open(path).await?;
            let (_, lease) = file.write_all_fixed(lease, 0).await?;
            io::Result::Ok((file, lease))
        });
        let (file, lease) = writing.await.unwrap()?;
        assert_eq!((file.metadata().await?.len(), lease[0]), (4096, number));
        let given_back = spawn_on(place.last_shard(), move || async move { drop(lease) });
        given_back.await.unwrap();
    }
    // Nothing is kept by a shard that it was handed to.
    drop(buffers::lease(crate::place::POOL_BYTES).await?);
    Ok(())
}

async fn what_one_shard_receives_another_writes(place: Place) -> io::Result<()> {
    let (pieces, mut taken) = mpsc::channel::<buffers::Lease>(4);
    let path = place.at("file");
    let writing = spawn_on(place.last_shard(), move || async move {
        let file = File::create(path).await?;
        let mut offset = 0;
        while let Some(lease) = taken.recv().await {
            offset += file.write_all_fixed(lease, offset).await?.0 as u64;
        }
        io::Result::Ok(offset)
    });
    let (mut client, mut server) = connected().await?;
    let sending = spawn_local(async move { client.write_all(&pattern(100_000)).await });
    let mut leases = server.leases(4096);
    while let Some(lease) = leases.next().await {
        pieces.send(lease?).await.expect("it writes");
    }
    drop(pieces);
    sending.await.unwrap()?;
    assert_eq!(writing.await.unwrap()?, 100_000);
    let file = File::open(place.at("file")).await?;
    assert!(read_from(&file, 0, 100_001).await? == pattern(100_000));
    Ok(())
}

async fn a_connection_is_served_by_another_shard_than_the_one_that_accepted_it(
    place: Place,
) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    for _ in 0..5 {
        let mut client = TcpStream::connect(listener.local_addr()?).await?;
        let (mut server, _) = listener.accept().await?;
        client.write_all(b"first").await?;
        let mut first = [0; 2];
        server.read_exact(&mut first).await?;
        let serving = spawn_on(place.last_shard(), move || async move {
            let mut rest = [0; 3];
            server.read_exact(&mut rest).await?;
            assert_eq!(&rest, b"rst");
            server.write_all(&rest).await?;
            io::Result::Ok(server)
        });
        let mut answer = [0; 3];
        client.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"rst");
        // It comes back, and goes on here.
        let mut server = serving.await.unwrap()?;
        client.write_all(b"!").await?;
        assert_eq!(server.read_u8().await?, b'!');
    }
    Ok(())
}

async fn one_listener_is_served_by_all_shards(place: Place) -> io::Result<()> {
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await?);
    let address = listener.local_addr()?;
    let (served, mut numbers) = mpsc::channel(64);
    let alive = place.alive.clone();
    let serving = on_every_shard(move |_| async move {
        let _alive = alive;
        loop {
            let (mut stream, _) = listener.accept().await.expect("there are enough descriptors");
            let number = stream.read_u8().await.expect("each sends its number");
            served.send(number).await.expect("all are counted");
        }
    });
    for number in 0..40 {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_u8(number).await?;
    }
    let mut seen = Vec::new();
    while seen.len() < 40 {
        seen.push(numbers.recv().await.expect("they are served"));
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..40).collect::<Vec<_>>());
    serving.iter().for_each(|task| task.abort());
    Ok(())
}

async fn a_read_that_began_here_ends_there(place: Place) -> io::Result<()> {
    let (mut client, server) = connected().await?;
    let server = Arc::new(server);
    let reader = server.clone();
    let mut reading = Box::pin(async move { reader.read_owned(vec![0; 4]).await });
    assert!(futures::poll!(&mut reading).is_pending());
    yield_now().await;
    let ending = spawn_on(place.last_shard(), move || reading);
    client.write_all(b"here").await?;
    let (count, bytes) = ending.await.unwrap()?;
    assert_eq!(bytes[..count], b"here"[..count]);
    Ok(())
}

async fn a_file_goes_to_a_socket_of_another_shard(place: Place) -> io::Result<()> {
    runtime::fs::write(place.at("file"), pattern(50_000)).await?;
    let file = File::open(place.at("file")).await?;
    let (mut client, server) = connected().await?;
    let sending = spawn_on(place.last_shard(), move || async move {
        Ok::<_, io::Error>(send_file(&file, 1_000..60_000, &server).await?)
    });
    let mut received = Vec::new();
    client.read_to_end(&mut received).await?;
    assert_eq!(sending.await.unwrap()?, 49_000);
    assert!(received == pattern(50_000)[1_000..], "{} bytes", received.len());
    Ok(())
}
