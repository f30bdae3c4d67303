//! A file system whose server answers late or never, by `/dev/fuse`.
//!
//! Names that begin with `lost` are looked up for ever. The files that there are: `never`, whose
//! reads, writes and syncs have no end; `closed`, whose opening has none; `late`, whose reads take
//! [`LATE`]; and `ready`. A file has [`TEXT`].

#![allow(unsafe_code)] // A mount, and its end.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

pub const TEXT: &[u8] = b"said at last";
pub const LATE: Duration = Duration::from_millis(200);

const NAMES: [&str; 4] = ["never", "closed", "late", "ready"];
const NEVER: u64 = 2;
const CLOSED: u64 = 3;
const LATE_ONE: u64 = 4;

/// The mount, which ends with the server when this is dropped: what waits for an answer then gets
/// `ECONNABORTED` or `ENOTCONN`.
pub struct Fuse {
    place: tempfile::TempDir,
    path: CString,
}

impl Fuse {
    /// # Errors
    ///
    /// Where there is no `/dev/fuse`, or this process may not mount.
    pub fn mount() -> io::Result<Fuse> {
        let device = File::options().read(true).write(true).open("/dev/fuse")?;
        let place = tempfile::tempdir()?;
        let path = CString::new(place.path().as_os_str().as_bytes())?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        let options = CString::new(options)?;
        let (name, kind) = (c"late".as_ptr(), c"fuse".as_ptr());
        // SAFETY: it reads strings that end with a zero byte, which are borrowed, during the call
        // (S1).
        let mounted = unsafe { libc::mount(name, path.as_ptr(), kind, 0, options.as_ptr().cast()) };
        if mounted != 0 {
            return Err(io::Error::last_os_error());
        }
        thread::spawn(move || serve(&Arc::new(device)));
        Ok(Fuse { place, path })
    }

    pub fn path(&self) -> &Path {
        self.place.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        // SAFETY: it reads a string that ends with a zero byte, which is borrowed, during the call
        // (S1).
        unsafe { libc::umount2(self.path.as_ptr(), libc::MNT_DETACH | libc::MNT_FORCE) };
    }
}

fn serve(device: &Arc<File>) {
    let mut request = vec![0; 1 << 20];
    loop {
        match (&**device).read(&mut request) {
            Ok(length) => answer(device, &request[..length]),
            // It was unmounted.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return,
            Err(_) => {}
        }
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn longs(longs: &[u64]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_le_bytes()).collect()
}

/// `struct fuse_attr`.
fn attributes(node: u64) -> Vec<u8> {
    let (mode, length) = match node {
        1 => (libc::S_IFDIR | 0o755, 4096),
        _ => (libc::S_IFREG | 0o644, TEXT.len() as u64),
    };
    let mut bytes = longs(&[node, length, 8, 0, 0, 0]);
    bytes.extend(words(&[0, 0, 0, mode, 1, 0, 0, 0, 4096, 0]));
    bytes
}

/// What is answered at once, an errno, or nothing.
enum Answer {
    Bytes(Vec<u8>),
    Error(i32),
    Later(Vec<u8>),
    Never,
}

fn answer(device: &Arc<File>, request: &[u8]) {
    let unique = number(request, 8);
    match decide(request) {
        Answer::Bytes(bytes) => reply(device, unique, 0, &bytes),
        Answer::Error(errno) => reply(device, unique, errno, &[]),
        Answer::Later(bytes) => {
            let device = device.clone();
            thread::spawn(move || {
                thread::sleep(LATE);
                reply(&device, unique, 0, &bytes);
            });
        }
        Answer::Never => {}
    }
}

fn reply(device: &File, unique: u64, errno: i32, bytes: &[u8]) {
    let mut reply = words(&[16 + bytes.len() as u32, (-errno) as u32]);
    reply.extend(longs(&[unique]));
    reply.extend(bytes);
    // Who asked may be gone.
    let _ = (&mut &*device).write(&reply);
}

fn decide(request: &[u8]) -> Answer {
    let (operation, node) = (number(request, 0) >> 32, number(request, 16));
    let body = &request[40..];
    // By `enum fuse_opcode`.
    match operation {
        // LOOKUP. What is known of a name holds for a minute: its opening then asks at once.
        1 => {
            let name = body.split(|&byte| byte == 0).next().unwrap_or_default();
            let name = String::from_utf8_lossy(name);
            match NAMES.iter().position(|known| *known == name) {
                _ if name.starts_with("lost") => Answer::Never,
                None => Answer::Error(libc::ENOENT),
                Some(index) => {
                    let node = index as u64 + NEVER;
                    let mut bytes = longs(&[node, 0, 60, 60]);
                    bytes.extend(words(&[0, 0]));
                    bytes.extend(attributes(node));
                    Answer::Bytes(bytes)
                }
            }
        }
        // GETATTR, SETATTR
        3 | 4 => {
            let mut bytes = longs(&[1]);
            bytes.extend(words(&[0, 0]));
            bytes.extend(attributes(node));
            Answer::Bytes(bytes)
        }
        // OPEN, past the page cache.
        14 if node == CLOSED => Answer::Never,
        14 => Answer::Bytes([longs(&[1]), words(&[1, 0])].concat()),
        // OPENDIR
        27 => Answer::Bytes([longs(&[1]), words(&[0, 0])].concat()),
        // READ, WRITE, FSYNC
        15 | 16 | 20 if node == NEVER => Answer::Never,
        15 => {
            let offset = (number(body, 8) as usize).min(TEXT.len());
            let bytes = TEXT[offset..].to_vec();
            if node == LATE_ONE { Answer::Later(bytes) } else { Answer::Bytes(bytes) }
        }
        16 => Answer::Bytes(words(&[number(body, 16) as u32, 0])),
        // INIT
        26 => {
            let mut bytes = words(&[7, 31, 1 << 16, 0, 12 | 10 << 16, 1 << 16, 1, 0]);
            bytes.resize(64, 0);
            Answer::Bytes(bytes)
        }
        // READDIR: it is empty.
        28 => Answer::Bytes(Vec::new()),
        // STATFS: so much does closing a file not have to know.
        17 => Answer::Never,
        // FORGET, INTERRUPT, BATCH_FORGET: nobody waits.
        2 | 36 | 42 => Answer::Never,
        // RELEASE, FSYNC, FLUSH, RELEASEDIR
        18 | 20 | 25 | 29 => Answer::Bytes(Vec::new()),
        _ => Answer::Error(libc::ENOSYS),
    }
}
