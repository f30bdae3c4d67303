//! The example `fileserver` serves the files below a directory, and nothing else, to whatever
//! clients there are. `RINGHOLD_DOWNLOADS` sets how many slow ones there are at once.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::server::Server;
use common::{count, skip};
use runtime::Builder;
use runtime::io::{AsyncReadExt, AsyncWriteExt};
use runtime::net::TcpSocket;
use runtime::sync::Barrier;
use runtime::task::JoinSet;
use runtime::time::sleep;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use tempfile::TempDir;

const BIG_BYTES: usize = 8 << 20;

/// A byte of the big file, told by its place.
fn byte_at(place: usize) -> u8 {
    (place.wrapping_mul(2_654_435_761) >> 13) as u8
}

struct Site {
    directory: TempDir,
    server: Server,
}

impl Site {
    fn start(options: &[&str]) -> Site {
        // Not below /tmp, which may have no direct reads.
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("directory/inner")).unwrap();
        fs::write(root.join("hello.txt"), "hello world\n").unwrap();
        fs::write(root.join("index.html"), "<p>index</p>\n").unwrap();
        let big: Vec<u8> = (0..BIG_BYTES).map(byte_at).collect();
        fs::write(root.join("big.bin"), big).unwrap();
        fs::write(directory.path().join("secret"), "secret").unwrap();
        let server = Server::start("fileserver", |command| {
            command.arg(&root).args(["--listen", "127.0.0.1:0"]).args(options);
            command.stderr(Stdio::piped());
        });
        Site { directory, server }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// Sends what a client says on a connection of its own, and gives all that comes back.
    fn ask(&self, text: impl AsRef<[u8]>) -> String {
        let mut stream = self.server.connect();
        stream.write_all(text.as_ref()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Asks for a path, and gives the status and the body.
    fn get(&self, path: &str) -> (String, String) {
        let answer =
            self.ask(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().to_owned(), body.to_owned())
    }
}

/// Asks for the big file, or ranges of it, and reads nothing.
fn stalled(address: SocketAddr, ranges: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let request = format!("GET /big.bin HTTP/1.1\r\nHost: x\r\n{ranges}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// Runs a tool on an address below the server; `None` where there is no such tool.
fn run(test: &str, tool: &str, arguments: &[&str], url: &str) -> Option<(Vec<u8>, String)> {
    if let Err(error) = Command::new(tool).arg("--version").output() {
        skip(test, &format!("{tool}: {error}"));
        return None;
    }
    let output = Command::new(tool).args(arguments).arg(url).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{tool}: {} {errors}", output.status);
    Some((output.stdout, errors))
}

#[test]
fn curl_gets_files_and_parts_of_them() {
    for options in [&[][..], &["--buffered"], &["--copy"], &["--buffered", "--copy"]] {
        let site = Site::start(options);
        let url = |path: &str| format!("http://{}/{path}", site.server.address);
        let curl = |arguments: &[&str], path: &str| {
            let all = [&["--silent", "--show-error", "--fail"], arguments].concat();
            run("curl_gets_files_and_parts_of_them", "curl", &all, &url(path))
        };
        let Some((hello, _)) = curl(&[], "hello.txt") else { return };
        assert_eq!(hello, b"hello world\n");
        let (big, _) = curl(&[], "big.bin").unwrap();
        assert!(big.len() == BIG_BYTES && (0..BIG_BYTES).all(|place| big[place] == byte_at(place)));
        let (part, _) = curl(&["--range", "1000001-3000000"], "big.bin").unwrap();
        assert!((0..2_000_000).all(|place| part[place] == byte_at(1_000_001 + place)));
        assert_eq!(part.len(), 2_000_000);
        let (head, _) = curl(&["--head"], "big.bin").unwrap();
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("Length: 8388608\r\n"));
        let (index, _) = curl(&["--location"], "").unwrap();
        assert_eq!(index, b"<p>index</p>\n");
    }
}

#[test]
fn wrk_sees_no_error() {
    let site = Site::start(&[]);
    for path in ["hello.txt", "big.bin", "missing"] {
        let url = format!("http://{}/{path}", site.server.address);
        let options = ["--threads", "1", "--connections", "64", "--duration", "1"];
        let Some((said, _)) = run("wrk_sees_no_error", "wrk", &options, &url) else { return };
        let said = String::from_utf8(said).unwrap();
        assert!(said.contains("requests in ") && !said.contains("Socket errors"), "{said}");
        assert_eq!(said.contains("Non-2xx"), path == "missing", "{said}");
    }
}

#[test]
fn nothing_outside_of_the_root_is_served() {
    let site = Site::start(&[]);
    let root = site.root();
    symlink("../secret", root.join("up")).unwrap();
    symlink(root.parent().unwrap().join("secret"), root.join("absolute")).unwrap();
    symlink("..", root.join("directory/outside")).unwrap();
    symlink("../..", root.join("directory/far")).unwrap();
    symlink("circle", root.join("circle")).unwrap();
    symlink("hello.txt", root.join("link")).unwrap();
    for (path, status) in [
        ("/../secret", "400"),
        ("/%2e%2e/secret", "400"),
        ("/directory/..%2f..%2fsecret", "400"),
        ("/directory/../../secret", "400"),
        ("/up", "404"),
        ("/absolute", "404"),
        ("/directory/far/secret", "404"),
        ("/circle", "403"),
        ("/hello.txt%00.html", "400"),
        // These stay inside.
        ("/link", "200"),
        ("/directory/outside/hello.txt", "200"),
        ("/directory/../hello.txt", "200"),
        ("/./directory/..//%68ello.txt", "200"),
    ] {
        let (found, body) = site.get(path);
        assert_eq!(found, status, "{path}: {body}");
        assert!(!body.contains("secret"), "{path}: {body}");
    }
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let site = Site::start(&[]);
    let pipe = site.root().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let _socket = UnixListener::bind(site.root().join("socket")).unwrap();
    assert_eq!(site.get("/pipe").0, "404");
    assert_eq!(site.get("/socket").0, "404");
    assert_eq!(site.get("/socket/").0, "404");
    assert_eq!(site.get("/directory/inner/").0, "403");
    assert_eq!(site.get("/directory/inner").0, "301");
    assert_eq!(site.get("/nowhere/").0, "404");
    assert_eq!(site.get("/hello.txt/").0, "404");
}

#[test]
fn heads_that_are_too_large_are_refused_and_others_served_on() {
    let site = Site::start(&[]);
    let status = |answer: String| answer.split(' ').nth(1).map(str::to_owned);
    let long = "a".repeat(100_000);
    for _ in 0..20 {
        let answer = site.ask(format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(status(answer).as_deref(), Some("414"));
        let answer = site.ask(format!("GET / HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n"));
        assert_eq!(status(answer).as_deref(), Some("431"));
        let many = "X: y\r\n".repeat(10_000);
        let answer = site.ask(format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n"));
        assert_eq!(status(answer).as_deref(), Some("431"));
    }
    assert_eq!(site.get("/hello.txt").1, "hello world\n");
}

#[test]
fn requests_follow_each_other_on_a_connection() {
    let site = Site::start(&[]);
    let answer = site.ask(
        "GET /hello.txt HTTP/1.1\r\nHost: x\r\nRange: bytes=0-4\r\nContent-Length: 5\r\n\r\nGET /\
         HEAD /hello.txt HTTP/1.1\r\nHost: x\r\n\r\n\
         GET /missing HTTP/1.1\r\nHost: x\r\n\r\n\
         GET /hello.txt HTTP/1.0\r\n\r\n\
         GET /hello.txt HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    let statuses: Vec<&str> =
        answer.split("HTTP/1.1 ").skip(1).map(|response| &response[..3]).collect();
    // The last but one ends the connection.
    assert_eq!(statuses, ["206", "200", "404", "200"], "{answer}");
    assert!(answer.ends_with("\r\n\r\nhello world\n"), "{answer}");
}

#[test]
fn who_sends_too_slowly_is_told_and_cut_off() {
    let site = Site::start(&["--head", "1", "--idle", "1"]);
    let answer = site.ask("GET /hello.txt HTTP/1.1\r\nHo");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    // Who asks for nothing is told nothing.
    assert_eq!(site.ask(""), "");
}

#[test]
fn who_reads_nothing_holds_nothing_that_others_need() {
    // Less than the stalled ones would hold if each had a lease.
    let site = Site::start(&["--pool", "4", "--stall", "20"]);
    let tiny = "0-32766,".repeat(99);
    let ranges = ["", &format!("Range: bytes={tiny}0-65535\r\n")];
    let mut stalled: Vec<TcpStream> =
        (0..200).map(|client| stalled(site.server.address, ranges[client % 2])).collect();
    for stream in &mut stalled {
        stream.read_exact(&mut [0; 8]).unwrap();
    }
    for _ in 0..5 {
        let mut quick = site.server.connect();
        quick.write_all(b"GET /big.bin HTTP/1.0\r\n\r\n").unwrap();
        let mut bytes = Vec::new();
        quick.read_to_end(&mut bytes).unwrap();
        assert!(bytes.len() > BIG_BYTES && bytes.ends_with(&[byte_at(BIG_BYTES - 1)]));
    }
}

#[test]
fn who_reads_nothing_for_too_long_is_cut_off() {
    let site = Site::start(&["--stall", "0.3"]);
    let stream = stalled(site.server.address, "");
    let begin = Instant::now();
    let error = loop {
        match stream.take_error().unwrap() {
            Some(error) => break error,
            None => assert!(begin.elapsed() < Duration::from_secs(20), "it is connected still"),
        }
        thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_signal_ends_it_though_clients_read_nothing() {
    let mut site = Site::start(&[]);
    let mut stalled: Vec<TcpStream> = (0..20).map(|_| stalled(site.server.address, "")).collect();
    for stream in &mut stalled {
        stream.read_exact(&mut [0; 8]).unwrap();
    }
    kill_process(Pid::from_child(&site.server.child), Signal::TERM).unwrap();
    assert!(site.server.child.wait().unwrap().success());
    // What the kernel would not let go of is leaked, and said to be.
    let mut said = String::new();
    site.server.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
}

#[test]
fn a_file_that_gets_shorter_ends_the_connection_and_no_other() {
    let site = Site::start(&["--copy"]);
    let mut stream = stalled(site.server.address, "");
    stream.read_exact(&mut [0; 8]).unwrap();
    let file = fs::OpenOptions::new().write(true).open(site.root().join("big.bin")).unwrap();
    file.set_len(1000).unwrap();
    // What is on its way may come; then the connection ends, by a reset or in the middle.
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    assert!(bytes.len() < BIG_BYTES, "{}", bytes.len());
    assert_eq!(site.get("/hello.txt").1, "hello world\n");
}

/// A client that takes a file by a few bytes at a time, begun when all others have.
async fn download(address: SocketAddr, begun: Arc<Barrier>, bytes: usize) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(32 << 10)?;
    let mut stream = socket.connect(address).await?;
    let last = bytes - 1;
    let request = format!("GET /big.bin HTTP/1.1\r\nHost: x\r\nRange: bytes=0-{last}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    assert!(head.starts_with(b"HTTP/1.1 206 "), "{}", head.escape_ascii());
    begun.wait().await;
    let (mut place, mut room) = (0, [0; 4096]);
    while place < bytes {
        let count = stream.read(&mut room).await?;
        assert!(count > 0, "the download ended at {place}");
        assert!((0..count).all(|index| room[index] == byte_at(place + index)), "{place}");
        place += count;
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[test]
fn slow_downloads_are_served_all_at_once() {
    let downloads = count("RINGHOLD_DOWNLOADS", 300) as usize;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let site = Site::start(&["--pool", "16"]);
    let address = site.server.address;
    let begin = Instant::now();
    let run = Builder::new_current_thread().run(async move {
        let begun = Arc::new(Barrier::new(downloads));
        let mut clients = JoinSet::new();
        for _ in 0..downloads {
            clients.spawn_local(download(address, begun.clone(), 128 << 10));
        }
        while let Some(client) = clients.join_next().await {
            client.unwrap()?;
        }
        std::io::Result::Ok(())
    });
    run.unwrap().unwrap();
    let memory = common::proc::resident_bytes_of(site.server.child.id());
    println!("{downloads} downloads in {:?}, server has {memory} bytes resident", begin.elapsed());
}

#[test]
fn a_client_that_pipelines_refused_requests_does_not_hold_up_another() {
    let site = Site::start(&[]);
    let mut flood = site.server.connect();
    let mut answers = flood.try_clone().unwrap();
    let sender = thread::spawn(move || {
        let request = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na";
        let requests = request.repeat(4000);
        // Until the server is gone.
        while flood.write_all(&requests).is_ok() {}
    });
    let received = Arc::new(AtomicUsize::new(0));
    let count = received.clone();
    let receiver = thread::spawn(move || {
        let mut bytes = vec![0; 1 << 20];
        while let Ok(1..) = answers.read(&mut bytes) {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    while received.load(Ordering::SeqCst) == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    // Half of them come to the shard that is flooded.
    for _ in 0..16 {
        let begin = Instant::now();
        assert_eq!(site.get("/hello.txt"), ("200".to_owned(), "hello world\n".to_owned()));
        let waited = begin.elapsed();
        assert!(waited < Duration::from_secs(1), "{waited:?} behind the refused requests");
    }
    drop(site);
    sender.join().unwrap();
    receiver.join().unwrap();
}
