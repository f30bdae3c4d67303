//! What both servers are asked. `{tag}` stands for the server's own entity tag of `/data.bin`.

const PATHS: [&str; 34] = [
    "/",
    "/hello.txt",
    "/empty.txt",
    "/data.bin",
    "/style.css",
    "/data.json",
    "/image.png",
    "/page.html",
    "/no-extension",
    "/dir",
    "/dir/",
    "/dir?a=b",
    "/dir/index.html",
    "/bare",
    "/bare/",
    "/none",
    "/none/",
    "/none/deeper/still",
    "/hello.txt/",
    "/hello.txt/more",
    "/hello.txt?a=b",
    "/hello.txt#part",
    "/with%20space.txt",
    "/%C3%BC.txt",
    "/%68ello.txt",
    "/hello%2etxt",
    "/hello.txt%3fa=b",
    "/dir/../hello.txt",
    "/dir/./../hello.txt",
    "/./hello.txt",
    "//hello.txt",
    "/dir//index.html",
    "/dir/%2e%2e/hello.txt",
    "http://elsewhere/hello.txt",
];

const BAD_PATHS: [&str; 8] =
    ["/..", "/../x", "/dir/../../x", "/%2e%2e/x", "/%zz", "/%4", "/a%00b", "hello.txt"];

const RANGES: [&str; 38] = [
    "bytes=0-0",
    "bytes=0-9",
    "bytes=0-99999",
    "bytes=0-100000",
    "bytes=0-4000000000",
    "bytes=1-",
    "bytes=99999-",
    "bytes=100000-",
    "bytes=100001-100002",
    "bytes=4095-4096",
    "bytes=511-513",
    "bytes=65536-65536",
    "bytes=70000-90000",
    "bytes=-1",
    "bytes=-500",
    "bytes=-100000",
    "bytes=-100001",
    "bytes=-0",
    "bytes=5-4",
    "bytes=0-0,2-2",
    "bytes=0-0, -1",
    "bytes=10-20,30-40,50-60",
    "bytes=50-60,10-20",
    "bytes=10-20,15-25",
    "bytes=0-,0-",
    "bytes=200000-,5-6",
    "bytes=200000-,300000-",
    "bytes= 3-4",
    "bytes=3 - 4",
    "Bytes=3-4",
    "bytes=",
    "bytes=a-b",
    "bytes=1",
    "bytes=--1",
    "bytes=1-2-3",
    "bytes=99999999999999999999-",
    "items=0-4",
    "bytes 0-4",
];

/// Headers of requests for `/data.bin`, which was changed on 6 November 1994, 08:49:37.
const CONDITIONS: [&str; 34] = [
    "If-None-Match: {tag}",
    "If-None-Match: W/{tag}",
    "If-None-Match: \"other\"",
    "If-None-Match: \"other\", {tag}",
    "If-None-Match: \"other\", W/\"more\"",
    "If-None-Match: *",
    "If-None-Match: {tag}\r\nRange: bytes=0-4",
    "If-None-Match: \"other\"\r\nRange: bytes=0-4",
    "If-Match: {tag}",
    "If-Match: W/{tag}",
    "If-Match: \"other\"",
    "If-Match: \"other\", {tag}",
    "If-Match: *",
    "If-Match: {tag}\r\nRange: bytes=0-4",
    "If-Match: \"other\"\r\nRange: bytes=0-4",
    "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT",
    "If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT",
    "If-Modified-Since: Sun, 06 Nov 1994 08:49:38 GMT",
    "If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT",
    "If-Modified-Since: yesterday",
    "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\nRange: bytes=0-4",
    "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT",
    "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT",
    "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:38 GMT",
    "If-Match: {tag}\r\nIf-None-Match: {tag}",
    "If-Match: {tag}\r\nIf-None-Match: \"other\"",
    "If-Range: {tag}\r\nRange: bytes=0-4",
    "If-Range: \"other\"\r\nRange: bytes=0-4",
    "If-Range: Sun, 06 Nov 1994 08:49:37 GMT\r\nRange: bytes=0-4",
    "If-Range: Sun, 06 Nov 1994 08:49:36 GMT\r\nRange: bytes=0-4",
    "If-Range: Sun, 06 Nov 1994 08:49:38 GMT\r\nRange: bytes=0-4",
    "If-Range: W/{tag}\r\nRange: bytes=0-4",
    "If-Range: {tag}\r\nRange: bytes=200000-",
    "If-Range: {tag}",
];

const METHODS: [&str; 8] =
    ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "FOO"];

/// Whole requests that are wrong, or nearly.
const ODD: [&str; 30] = [
    "GET /hello.txt HTTP/1.1\r\n\r\n",
    "GET /hello.txt HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n",
    "GET /hello.txt HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "GET /hello.txt HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "GET /hello.txt HTTP/1.1\r\nHost: a:80\r\nConnection: close\r\n\r\n",
    "GET /hello.txt HTTP/1.1\r\nhOST: a\r\ncONNECTION: cLOSE\r\n\r\n",
    "GET /hello.txt HTTP/1.0\r\n\r\n",
    "GET /hello.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "HEAD /hello.txt HTTP/1.0\r\n\r\n",
    "GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /none HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /hello.txt HTTP/2.0\r\nHost: a\r\n\r\n",
    "GET /hello.txt HTP/1.1\r\nHost: a\r\n\r\n",
    "GET /hello.txt http/1.1\r\nHost: a\r\n\r\n",
    "get /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n",
    "G{} /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET\r\n\r\n",
    "GET /hello.txt HTTP/1.1\nHost: a\nConnection: close\n\n",
    "\r\n\r\nGET /hello.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "GET /hello.txt HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
    "GET /hello.txt HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /none HTTP/1.0\r\n\r\n",
    "GET /hello.txt HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
    "GET /hello.txt HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\n",
    "GET /hello.txt HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "GET /hello.txt HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
    "GET /hello.txt HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
    "GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\nHEAD /data.bin HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /dir/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "HEAD /../x HTTP/1.1\r\nHost: a\r\n\r\n",
    "\u{1}\u{2}\u{3}\r\n\r\n",
];

fn ask(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n")
}

/// All of them, each for a connection of its own.
pub fn all() -> Vec<String> {
    let mut all = Vec::new();
    for method in ["GET", "HEAD"] {
        all.extend(PATHS.iter().chain(&BAD_PATHS).map(|path| ask(method, path, "")));
    }
    for range in RANGES {
        all.push(ask("GET", "/data.bin", &format!("Range: {range}\r\n")));
    }
    for (path, range) in [
        ("/empty.txt", "bytes=0-0"),
        ("/empty.txt", "bytes=-1"),
        ("/empty.txt", "bytes=a"),
        ("/hello.txt", "bytes=1-2,4-5"),
        ("/dir", "bytes=0-0"),
        ("/dir/", "bytes=0-0"),
        ("/none", "bytes=0-0"),
    ] {
        all.push(ask("GET", path, &format!("Range: {range}\r\n")));
    }
    for range in ["bytes=0-9", "bytes=1-2,4-5", "bytes=200000-"] {
        all.push(ask("HEAD", "/data.bin", &format!("Range: {range}\r\n")));
    }
    for condition in CONDITIONS {
        all.push(ask("GET", "/data.bin", &format!("{condition}\r\n")));
    }
    all.push(ask("HEAD", "/data.bin", "If-None-Match: {tag}\r\n"));
    all.push(ask("HEAD", "/data.bin", "If-Match: \"other\"\r\n"));
    for method in METHODS {
        all.push(ask(method, "/hello.txt", ""));
    }
    for path in ["/none", "/dir", "/bare/", "/"] {
        all.push(ask("POST", path, "Content-Length: 0\r\n"));
        all.push(ask("DELETE", path, ""));
    }
    all.extend(ODD.map(str::to_owned));
    let long = "a".repeat(40_000);
    all.push(ask("GET", &format!("/{long}"), ""));
    all.push(ask("GET", "/hello.txt", &format!("X: {long}\r\n")));
    all.push(ask("GET", "/hello.txt", &format!("X: {}\r\n", &long[..5000])));
    all
}
