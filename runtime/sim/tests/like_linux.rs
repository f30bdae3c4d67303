//! The simulated file system against the real one: the same calls give the same results and leave
//! the same tree.

use std::os::fd::{AsFd, OwnedFd};

use proptest::prelude::*;
use proptest::test_runner::Config;
use rustix::fs::{self as real, AtFlags, FallocateFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno as RealErrno;

use ringhold_sim::choose::First;
use ringhold_sim::disk::{DiskConfig, Errno, FileSystem};

const PATHS: [&str; 16] = [
    "a", "b", "d", "d/a", "d/e", "d/e/a", "l", "l/a", "a/", "d/", "d/.", "d/..", "d/e/../b", ".",
    "l/", "d/e/",
];

/// None leads above the directory that it lies in.
const TARGETS: [&str; 6] = ["a", "d", "d/e", "l", "missing", "d/"];

const FLAGS: [i32; 14] = [
    libc::O_RDONLY,
    libc::O_WRONLY,
    libc::O_RDWR,
    libc::O_RDWR | libc::O_CREAT,
    libc::O_RDWR | libc::O_CREAT,
    libc::O_RDWR | libc::O_CREAT | libc::O_EXCL,
    libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC,
    libc::O_RDONLY | libc::O_TRUNC,
    libc::O_RDWR | libc::O_APPEND | libc::O_CREAT,
    libc::O_RDONLY | libc::O_DIRECTORY,
    libc::O_RDONLY | libc::O_NOFOLLOW,
    libc::O_RDONLY | libc::O_PATH,
    libc::O_RDONLY | libc::O_PATH | libc::O_NOFOLLOW,
    libc::O_RDWR | libc::O_CREAT | libc::O_NOFOLLOW,
];

const ALLOCATIONS: [i32; 5] = [
    0,
    libc::FALLOC_FL_KEEP_SIZE,
    libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
    libc::FALLOC_FL_ZERO_RANGE,
    libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE,
];

#[derive(Clone, Debug)]
enum Call {
    Open { path: &'static str, flags: i32 },
    Close { file: usize },
    Duplicate { file: usize },
    Read { file: usize, offset: Option<u64>, length: usize },
    Write { file: usize, offset: Option<u64>, length: usize, fill: u8 },
    Seek { file: usize, offset: i64, whence: i32 },
    Truncate { file: usize, length: u64 },
    Allocate { file: usize, mode: i32, offset: u64, length: u64 },
    Copy { source: usize, from: u64, target: usize, to: u64, length: usize },
    Unlink { path: &'static str, flags: i32 },
    MakeDirectory { path: &'static str },
    Rename { old: &'static str, new: &'static str, flags: u32 },
    Link { old: &'static str, new: &'static str, flags: i32 },
    Symlink { target: &'static str, path: &'static str },
    ReadLink { path: &'static str },
    SetMode { path: &'static str, mode: u32 },
    Stat { path: &'static str, flags: i32 },
    StatOpen { file: usize },
    List { file: usize },
}

fn path() -> impl Strategy<Value = &'static str> {
    // The first ones more often, so that calls meet.
    prop_oneof![3 => prop::sample::select(&PATHS[..7]), 1 => prop::sample::select(&PATHS[..])]
}

fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![0..600_u64, 3900..4200_u64, 0..20_000_u64, Just(4096), Just(8192)]
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![0..600_usize, 0..9000_usize, Just(4096), Just(8192)]
}

fn at() -> impl Strategy<Value = Option<u64>> {
    prop::option::of(offset())
}

fn call() -> impl Strategy<Value = Call> {
    let file = || 0..8_usize;
    let follow = || prop_oneof![Just(0), Just(libc::AT_SYMLINK_NOFOLLOW)];
    let whence = prop_oneof![Just(libc::SEEK_SET), Just(libc::SEEK_CUR), Just(libc::SEEK_END)];
    let exchange = prop_oneof![
        4 => Just(0),
        1 => Just(libc::RENAME_NOREPLACE),
        1 => Just(libc::RENAME_EXCHANGE),
    ];
    let on_files = prop_oneof![
        8 => (path(), prop::sample::select(&FLAGS[..]))
            .prop_map(|(path, flags)| Call::Open { path, flags }),
        2 => file().prop_map(|file| Call::Close { file }),
        1 => file().prop_map(|file| Call::Duplicate { file }),
        6 => (file(), at(), length())
            .prop_map(|(file, offset, length)| Call::Read { file, offset, length }),
        8 => (file(), at(), length(), 1..=255_u8)
            .prop_map(|(file, offset, length, fill)| Call::Write { file, offset, length, fill }),
        2 => (file(), -5000..5000_i64, whence)
            .prop_map(|(file, offset, whence)| Call::Seek { file, offset, whence }),
        3 => (file(), offset()).prop_map(|(file, length)| Call::Truncate { file, length }),
        3 => (file(), prop::sample::select(&ALLOCATIONS[..]), offset(), offset())
            .prop_map(|(file, mode, offset, length)| Call::Allocate { file, mode, offset, length }),
        2 => (file(), offset(), file(), offset(), length()).prop_map(
            |(source, from, target, to, length)| Call::Copy { source, from, target, to, length },
        ),
        2 => file().prop_map(|file| Call::StatOpen { file }),
        2 => file().prop_map(|file| Call::List { file }),
    ];
    let on_names = prop_oneof![
        3 => (path(), prop_oneof![Just(0), Just(libc::AT_REMOVEDIR)])
            .prop_map(|(path, flags)| Call::Unlink { path, flags }),
        4 => path().prop_map(|path| Call::MakeDirectory { path }),
        5 => (path(), path(), exchange)
            .prop_map(|(old, new, flags)| Call::Rename { old, new, flags }),
        2 => (path(), path(), prop_oneof![Just(0), Just(libc::AT_SYMLINK_FOLLOW)])
            .prop_map(|(old, new, flags)| Call::Link { old, new, flags }),
        2 => (prop::sample::select(&TARGETS[..]), path())
            .prop_map(|(target, path)| Call::Symlink { target, path }),
        1 => path().prop_map(|path| Call::ReadLink { path }),
        1 => (path(), 0..0o1000_u32).prop_map(|(path, mode)| Call::SetMode { path, mode }),
        2 => (path(), follow()).prop_map(|(path, flags)| Call::Stat { path, flags }),
    ];
    prop_oneof![1 => on_files, 1 => on_names]
}

/// What a call gave, in words.
type Outcome = Result<String, i32>;

fn said<T: std::fmt::Debug>(value: Result<T, Errno>) -> Outcome {
    value.map(|value| format!("{value:?}")).map_err(|errno| errno.0)
}

fn really<T: std::fmt::Debug>(value: Result<T, RealErrno>) -> Outcome {
    value.map(|value| format!("{value:?}")).map_err(RealErrno::raw_os_error)
}

/// A directory of the real file system and one of the simulated one, and files open in both.
struct Pair {
    sim: FileSystem,
    sim_base: i32,
    real_base: OwnedFd,
    files: Vec<(i32, OwnedFd)>,
    _folder: tempfile::TempDir,
}

impl Pair {
    fn new() -> Pair {
        rustix::process::umask(Mode::from_raw_mode(0o022));
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("it is made");
        // The folder has this one and no other, as the simulated root has: it is looked at as `..`.
        let base = folder.path().join("t");
        std::fs::create_dir(&base).expect("the folder is empty");
        let open = OFlags::RDONLY | OFlags::DIRECTORY;
        let real_base = real::open(&base, open, Mode::empty()).expect("it is there");
        real::fchmod(&real_base, Mode::from_raw_mode(0o777)).expect("it is ours");
        real::chmod(folder.path(), Mode::from_raw_mode(0o755)).expect("it is ours");
        let mut sim = FileSystem::new(DiskConfig::default());
        let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
        // The folder is the user's, as it is on Linux. Only root may make it beside the root.
        sim.set_mode(libc::AT_FDCWD, b"/", 0o777).expect("it is root's");
        sim.set_user(user.as_raw(), group.as_raw());
        sim.mkdir_at(libc::AT_FDCWD, b"/t", 0o700).expect("the root is empty");
        sim.set_mode(libc::AT_FDCWD, b"/t", 0o777).expect("it is the user's");
        sim.set_user(0, 0);
        sim.set_mode(libc::AT_FDCWD, b"/", 0o755).expect("it is root's");
        sim.set_user(user.as_raw(), group.as_raw());
        let sim_base = sim.open_at(libc::AT_FDCWD, b"/t", libc::O_RDONLY, 0).expect("it was made");
        Pair { sim, sim_base, real_base, files: Vec::new(), _folder: folder }
    }

    fn file(&self, index: usize) -> Option<(i32, &OwnedFd)> {
        let count = self.files.len();
        (count > 0).then(|| (self.files[index % count].0, &self.files[index % count].1))
    }

    /// Makes a call in both, and gives what each said.
    fn call(&mut self, call: &Call) -> (Outcome, Outcome) {
        match call {
            Call::Open { .. } | Call::Close { .. } | Call::Duplicate { .. } => {
                self.open_or_close(call)
            }
            Call::Read { .. } | Call::Write { .. } | Call::Seek { .. } | Call::Copy { .. } => {
                self.transfer(call)
            }
            Call::Truncate { .. }
            | Call::Allocate { .. }
            | Call::StatOpen { .. }
            | Call::List { .. } => self.on_file(call),
            _ => self.on_names(call),
        }
    }

    fn open_or_close(&mut self, call: &Call) -> (Outcome, Outcome) {
        match *call {
            Call::Open { path, flags } => {
                let sim = self.sim.open_at(self.sim_base, path.as_bytes(), flags, 0o666);
                let real_flags = OFlags::from_bits_retain(flags as u32);
                let mode = Mode::from_raw_mode(0o666);
                let real = real::openat(&self.real_base, path, real_flags, mode);
                match (sim, real) {
                    (Ok(sim), Ok(real)) => {
                        self.files.push((sim, real));
                        (Ok("open".into()), Ok("open".into()))
                    }
                    (sim, real) => (said(sim.map(|_| "open")), really(real.map(|_| "open"))),
                }
            }
            Call::Close { file } if !self.files.is_empty() => {
                let (sim, _) = self.files.swap_remove(file % self.files.len());
                (said(self.sim.close(sim)), Ok("()".into()))
            }
            Call::Duplicate { file } if !self.files.is_empty() => {
                let (sim, real) = self.file(file).expect("one is open");
                let real = rustix::io::dup(real);
                let sim = self.sim.duplicate(sim);
                self.files.push((sim.expect("there is room"), real.expect("there is room")));
                (Ok(String::new()), Ok(String::new()))
            }
            _ => (Ok(String::new()), Ok(String::new())),
        }
    }

    fn transfer(&mut self, call: &Call) -> (Outcome, Outcome) {
        let nothing = (Ok(String::new()), Ok(String::new()));
        match *call {
            Call::Read { file, offset, length } => {
                let Some((sim, real)) = self.file(file) else { return nothing };
                let (mut ours, mut theirs) = (vec![0; length], vec![0; length]);
                let real = match offset {
                    Some(offset) => rustix::io::pread(real, &mut theirs, offset),
                    None => rustix::io::read(real, &mut theirs),
                };
                let offset = offset.unwrap_or(u64::MAX);
                let sim = self.sim.read_at(sim, offset, 0, &mut ours, &mut First);
                (said(sim.map(|count| (count, ours))), really(real.map(|count| (count, theirs))))
            }
            Call::Write { file, offset, length, fill } => {
                let Some((sim, real)) = self.file(file) else { return nothing };
                let bytes: Vec<u8> = (0..length).map(|at| fill.wrapping_add(at as u8)).collect();
                let real = match offset {
                    Some(offset) => rustix::io::pwrite(real, &bytes, offset),
                    None => rustix::io::write(real, &bytes),
                };
                let offset = offset.unwrap_or(u64::MAX);
                (said(self.sim.write_at(sim, offset, 0, &bytes, 0, &mut First)), really(real))
            }
            Call::Seek { file, offset, whence } => {
                let Some((sim, real)) = self.file(file) else { return nothing };
                // Where a directory of the real one ends is its own business.
                let is_file =
                    real::fstat(real).expect("it is open").st_mode & libc::S_IFMT == libc::S_IFREG;
                if !is_file {
                    return nothing;
                }
                let real = match whence {
                    libc::SEEK_CUR => real::seek(real, real::SeekFrom::Current(offset)),
                    libc::SEEK_END => real::seek(real, real::SeekFrom::End(offset)),
                    _ if offset < 0 => return nothing,
                    _ => real::seek(real, real::SeekFrom::Start(offset as u64)),
                };
                (said(self.sim.seek(sim, offset, whence)), really(real))
            }
            Call::Copy { source, from, target, to, length } => {
                let (Some(source), Some(target)) = (self.file(source), self.file(target)) else {
                    return nothing;
                };
                let (mut at, mut into) = (from, to);
                let real = real::copy_file_range(
                    source.1,
                    Some(&mut at),
                    target.1,
                    Some(&mut into),
                    length,
                );
                let (source, target) = (source.0, target.0);
                let sim = self.sim.copy_range(source, from, target, to, length as u64, &mut First);
                (said(sim), really(real))
            }
            _ => unreachable!("only transfers get here"),
        }
    }

    fn on_file(&mut self, call: &Call) -> (Outcome, Outcome) {
        let (Call::Truncate { file, .. }
        | Call::Allocate { file, .. }
        | Call::StatOpen { file }
        | Call::List { file }) = *call
        else {
            unreachable!("only calls on one file get here")
        };
        let Some((sim, real)) = self.file(file) else {
            return (Ok(String::new()), Ok(String::new()));
        };
        match *call {
            Call::Truncate { length, .. } => {
                let real = real::ftruncate(real, length);
                (said(self.sim.truncate(sim, length)), really(real))
            }
            Call::Allocate { mode, offset, length, .. } => {
                let flags = FallocateFlags::from_bits_retain(mode as u32);
                let real = real::fallocate(real, flags, offset, length);
                (said(self.sim.allocate(sim, mode, offset, length)), really(real))
            }
            Call::StatOpen { .. } => {
                let real = stat_real(real, "", libc::AT_EMPTY_PATH);
                (stat_sim(&self.sim, sim, "", libc::AT_EMPTY_PATH), real)
            }
            _ => {
                let real = list_real(real);
                let sim = self.sim.rewind_directory(sim).and_then(|()| {
                    let listed = self.sim.read_directory(sim, usize::MAX)?;
                    Ok(listed.into_iter().map(|it| (it.name, it.kind)).collect::<Vec<_>>())
                });
                // `Dir` takes the error of a directory that was removed for its end.
                let sim = if sim == Err(Errno(libc::ENOENT)) { Ok(Vec::new()) } else { sim };
                (said(sim), really(real))
            }
        }
    }

    fn on_names(&mut self, call: &Call) -> (Outcome, Outcome) {
        let (sim, base, here) = (&mut self.sim, &self.real_base, self.sim_base);
        match *call {
            Call::Unlink { path, flags } => {
                let real = real::unlinkat(base, path, AtFlags::from_bits_retain(flags as u32));
                (said(sim.unlink_at(here, path.as_bytes(), flags)), really(real))
            }
            Call::MakeDirectory { path } => {
                let real = real::mkdirat(base, path, Mode::from_raw_mode(0o777));
                (said(sim.mkdir_at(here, path.as_bytes(), 0o777)), really(real))
            }
            Call::Rename { old, new, flags } => {
                let real_flags = RenameFlags::from_bits_retain(flags);
                let real = real::renameat_with(base, old, base, new, real_flags);
                let (old, new) = (old.as_bytes(), new.as_bytes());
                (said(sim.rename_at(here, old, here, new, flags)), really(real))
            }
            Call::Link { old, new, flags } => {
                let real_flags = AtFlags::from_bits_retain(flags as u32);
                let real = real::linkat(base, old, base, new, real_flags);
                let (old, new) = (old.as_bytes(), new.as_bytes());
                (said(sim.link_at(here, old, here, new, flags)), really(real))
            }
            Call::Symlink { target, path } => {
                let real = real::symlinkat(target, base, path);
                (said(sim.symlink_at(target.as_bytes(), here, path.as_bytes())), really(real))
            }
            Call::ReadLink { path } => {
                let real = real::readlinkat(base, path, Vec::new());
                (
                    said(sim.read_link(here, path.as_bytes())),
                    really(real.map(|target| target.into_bytes())),
                )
            }
            Call::SetMode { path, mode } => {
                let real = real::chmodat(base, path, Mode::from_raw_mode(mode), AtFlags::empty());
                (said(sim.set_mode(here, path.as_bytes(), mode)), really(real))
            }
            Call::Stat { path, flags } => {
                (stat_sim(sim, here, path, flags), stat_real(base, path, flags))
            }
            _ => unreachable!("only calls on names get here"),
        }
    }

    /// Every path below the base with what lies there, in both.
    fn compare_trees(&mut self) {
        let mut folders = vec![".".to_string()];
        real::fchmod(&self.real_base, Mode::RWXU).expect("it is ours");
        self.sim.set_mode_of(self.sim_base, 0o700).expect("it is the user's");
        while let Some(folder) = folders.pop() {
            self.make_readable(&folder);
            let open = OFlags::RDONLY | OFlags::DIRECTORY;
            let directory = real::openat(&self.real_base, &*folder, open, Mode::empty());
            let theirs = list_real(&directory.expect("it was listed")).expect("it can be listed");
            let here = self.sim_base;
            let ours = self.sim.open_at(here, folder.as_bytes(), libc::O_RDONLY, 0);
            let ours = ours.unwrap_or_else(|errno| panic!("{folder}: {errno:?}"));
            let listed = self.sim.read_directory(ours, usize::MAX).expect("it can be listed");
            let listed: Vec<_> = listed.into_iter().map(|it| (it.name, it.kind)).collect();
            assert_eq!(listed, theirs, "{folder}");
            for (name, kind) in theirs {
                let name = String::from_utf8(name).expect("the test's names are text");
                let path = format!("{folder}/{name}");
                let flags = libc::AT_SYMLINK_NOFOLLOW;
                let real = stat_real(&self.real_base, &path, flags);
                assert_eq!(stat_sim(&self.sim, here, &path, flags), real, "{path}");
                match kind {
                    libc::DT_DIR if !name.starts_with('.') => folders.push(path),
                    libc::DT_REG => self.compare_bytes(&path),
                    _ => {}
                }
            }
        }
    }

    /// What the calls took from the owner is given back, in both: modes were compared before.
    fn make_readable(&mut self, path: &str) {
        real::chmodat(&self.real_base, path, Mode::RWXU, AtFlags::empty()).expect("it is ours");
        let made = self.sim.set_mode(self.sim_base, path.as_bytes(), 0o700);
        made.expect("it is the user's");
    }

    fn compare_bytes(&mut self, path: &str) {
        self.make_readable(path);
        let (mut ours, mut theirs) = (vec![0; 100_000], vec![0; 100_000]);
        let real = real::openat(&self.real_base, path, OFlags::RDONLY, Mode::empty());
        let real = real.expect("it was listed");
        let count = rustix::io::pread(&real, &mut theirs, 0).expect("it is a file");
        let sim = self.sim.open_at(self.sim_base, path.as_bytes(), libc::O_RDONLY, 0);
        let sim = sim.expect("it was listed");
        assert_eq!(self.sim.read_at(sim, 0, 0, &mut ours, &mut First), Ok(count), "{path}");
        assert!(ours == theirs, "the bytes of {path} differ");
        assert_eq!(self.sim.close(sim), Ok(()));
    }
}

fn list_real(directory: &OwnedFd) -> Result<Vec<(Vec<u8>, u8)>, RealErrno> {
    let flags = real::fcntl_getfl(directory)?;
    let is_directory = real::fstat(directory)?.st_mode & libc::S_IFMT == libc::S_IFDIR;
    if flags.contains(OFlags::PATH) || flags.contains(OFlags::WRONLY) {
        return Err(RealErrno::BADF);
    }
    if !is_directory {
        return Err(RealErrno::NOTDIR);
    }
    let mut listed = Vec::new();
    // By the open directory itself, whose place is restored: a user may not open anew what can't
    // be read any more.
    let place = real::tell(directory)?;
    let mut entries = real::Dir::new(rustix::io::fcntl_dupfd_cloexec(directory, 0)?)?;
    entries.rewind();
    for entry in entries {
        let entry = entry?;
        let kind = match entry.file_type() {
            real::FileType::RegularFile => libc::DT_REG,
            real::FileType::Directory => libc::DT_DIR,
            _ => libc::DT_LNK,
        };
        listed.push((entry.file_name().to_bytes().to_vec(), kind));
    }
    real::seek(directory, real::SeekFrom::Start(place))?;
    // The two that every directory has come first.
    listed.sort_by_key(|(name, _)| (name != b"." && name != b"..", name.clone()));
    Ok(listed)
}

fn stat_sim(sim: &FileSystem, directory: i32, path: &str, flags: i32) -> Outcome {
    let status = sim.statx(directory, path.as_bytes(), flags);
    said(status.map(|it| described(it.mode, it.links, it.size)))
}

fn stat_real(directory: impl AsFd, path: &str, flags: i32) -> Outcome {
    let flags = AtFlags::from_bits_retain(flags as u32);
    let status = real::statx(directory, path, flags, real::StatxFlags::BASIC_STATS);
    really(status.map(|it| described(it.stx_mode.into(), it.stx_nlink, it.stx_size)))
}

/// What both file systems have to agree about. A directory's size is its file system's business.
fn described(mode: u32, links: u32, size: u64) -> (u32, u32, u64) {
    (mode, links, if mode & libc::S_IFMT == libc::S_IFDIR { 0 } else { size })
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn the_same_calls_give_the_same_results_and_leave_the_same_tree(
        calls in prop::collection::vec(call(), 1..80)
    ) {
        let mut pair = Pair::new();
        for (index, call) in calls.iter().enumerate() {
            let (sim, real) = pair.call(call);
            prop_assert_eq!(sim, real, "call {} {:?}", index, call);
        }
        pair.compare_trees();
    }
}
