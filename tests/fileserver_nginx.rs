//! The example `fileserver` answers what nginx answers: the same status, header fields and bodies
//! to more than two hundred requests, but for the fields that `tests/served/response.rs` names.

mod common;

mod served;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use common::server::Server;
use common::skip;
use served::nginx::Nginx;
use served::requests;
use served::response::Response;

/// 6 November 1994, 08:49:37.
const CHANGED: u64 = 784_111_777;

fn fill(root: &Path) {
    let data: Vec<u8> = (0..100_000_u32).map(|place| (place / 7) as u8).collect();
    for (name, bytes) in [
        ("hello.txt", &b"hello world\n"[..]),
        ("empty.txt", b""),
        ("data.bin", &data),
        ("style.css", b"p {}\n"),
        ("data.json", b"{}\n"),
        ("image.png", b"not really"),
        ("page.html", &data[..5000]),
        ("no-extension", b"?"),
        ("index.html", b"<p>index</p>\n"),
        ("dir/index.html", b"<p>of a directory</p>\n"),
        ("with space.txt", b"a space\n"),
        ("\u{fc}.txt", b"an umlaut\n"),
        ("hello.txt?a=b", b"a question mark\n"),
    ] {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(CHANGED)).unwrap();
    }
    fs::create_dir(root.join("bare")).unwrap();
}

/// Sends a request, and reads to the end of the connection; of a request that is too large, and
/// refused early, the end may be a reset.
fn exchange(mut stream: impl Read + Write, request: &str) -> Vec<u8> {
    let sent = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer).map(drop);
    if request.len() < 8000 {
        sent.and(ended).unwrap_or_else(|error| panic!("{error} after {request:?}"));
    }
    assert!(!answer.is_empty(), "no answer to {:?}", &request[..request.len().min(200)]);
    answer
}

fn tag_of(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    let line = text.lines().find_map(|line| line.strip_prefix("ETag: ")).expect("it has a tag");
    line.to_owned()
}

#[test]
fn responses_are_those_of_nginx() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let root = directory.path().join("root");
    fill(&root);
    let Some(nginx) = Nginx::start(directory.path(), &root) else {
        return skip("responses_are_those_of_nginx", "nginx is not installed");
    };
    let ours = Server::start("fileserver", |command| {
        command.arg(&root).args(["--listen", "127.0.0.1:0", "--idle", "0.2"]);
    });
    let head = "HEAD /data.bin HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let our_tag = tag_of(&exchange(ours.connect(), head));
    let its_tag = tag_of(&exchange(nginx.connect(), head));
    let requests = requests::all();
    assert!(requests.len() >= 200, "{}", requests.len());
    let mut different = Vec::new();
    for request in &requests {
        let (to_us, to_it) =
            (request.replace("{tag}", &our_tag), request.replace("{tag}", &its_tag));
        let ours = Response::parse_all(request, &exchange(ours.connect(), &to_us), &our_tag);
        let its = Response::parse_all(request, &exchange(nginx.connect(), &to_it), &its_tag);
        if ours != its {
            let request = &request[..request.len().min(200)];
            different.push(format!("{request:?}\n   ours: {ours:?}\n  nginx: {its:?}\n"));
        }
    }
    let count = different.len();
    assert!(count == 0, "{count} of {} differ:\n{}", requests.len(), different.concat());
    println!("{} requests", requests.len());
}
