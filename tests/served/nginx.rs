//! nginx, which is asked the same.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What a status says of itself in our server; nginx has its own text for each.
const ERRORS: [(u16, &str); 12] = [
    (400, "Bad Request"),
    (403, "Forbidden"),
    (404, "Not Found"),
    (405, "Method Not Allowed"),
    (408, "Request Timeout"),
    (412, "Precondition Failed"),
    (414, "URI Too Long"),
    (416, "Range Not Satisfiable"),
    (431, "Request Header Fields Too Large"),
    (500, "Internal Server Error"),
    (501, "Not Implemented"),
    (505, "HTTP Version Not Supported"),
];

/// It is killed when this is dropped.
pub struct Nginx {
    child: Child,
    socket: PathBuf,
}

impl Nginx {
    /// Serves `root`, with what it needs in `directory`; `None` where it isn't installed.
    pub fn start(directory: &Path, root: &Path) -> Option<Nginx> {
        let socket = directory.join("socket");
        let configuration = directory.join("nginx.conf");
        fs::create_dir(directory.join("logs")).unwrap();
        fs::write(&configuration, text(directory, root, &socket)).unwrap();
        let log = fs::File::create(directory.join("said")).unwrap();
        let mut child = match Command::new("nginx")
            .args(["-p".as_ref(), directory.as_os_str(), "-c".as_ref(), configuration.as_os_str()])
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin:/usr/local/sbin")
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
        {
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            child => child.unwrap(),
        };
        let begin = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            let said = || fs::read_to_string(directory.join("said"));
            assert_eq!(child.try_wait().unwrap(), None, "{:?}", said());
            assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", said());
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(Nginx { child, socket })
    }

    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("it was running");
    }
}

fn text(directory: &Path, root: &Path, socket: &Path) -> String {
    let (directory, root, socket) = (directory.display(), root.display(), socket.display());
    let mut errors = String::new();
    for (status, reason) in ERRORS {
        // What nginx itself calls 494 is a head that is too large.
        let (of, to) = if status == 431 { ("494", "=431 ") } else { ("", "") };
        let of = if of.is_empty() { status.to_string() } else { of.to_owned() };
        errors += &format!(
            "error_page {of} {to}/.errors/{status};\n\
             location = /.errors/{status} {{\n\
               internal;\n\
               default_type text/plain;\n\
               return {status} \"{status} {reason}\\n\";\n\
             }}\n"
        );
    }
    format!(
        "daemon off; master_process off; pid {directory}/pid; error_log {directory}/error.log;
        events {{}}
        http {{
          access_log off;
          client_body_temp_path {directory}/body;
          proxy_temp_path {directory}/proxy;
          fastcgi_temp_path {directory}/fastcgi;
          uwsgi_temp_path {directory}/uwsgi;
          scgi_temp_path {directory}/scgi;
          types {{
            text/html html; text/plain txt; text/css css; application/json json; image/png png;
          }}
          default_type application/octet-stream;
          server {{
            listen unix:{socket};
            root {root};
            index index.html;
            absolute_redirect off;
            if_modified_since before;
            keepalive_timeout 200ms;
            {errors}
          }}
        }}"
    )
}
