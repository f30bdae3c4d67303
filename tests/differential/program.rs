//! The calls that a seed draws.

use fastrand::Rng;
use runtime::fs::Allocation;

/// Where calls go, the first ones more often, so that they meet.
const PATHS: [&str; 15] = [
    "a", "b", "d", "d/a", "d/e", "d/e/a", "l", "l/a", "a/", "d/", "d/.", "d/..", "d/e/../b", ".",
    "l/",
];

/// Whole trees are made and removed at these.
const TREES: [&str; 5] = ["d", "d/e", "d/e/f", "l", "d/x/y"];

/// None leads above the directory that it lies in.
const TARGETS: [&str; 6] = ["a", "d", "d/e", "l", "missing", "d/"];

/// How many files are open at a time.
pub const SLOTS: usize = 4;

/// The block of direct I/O that suits each of the file systems.
pub const PAGE: u64 = 4096;

/// How bytes are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Plain,
    Exact,
    Fixed,
    Vectored,
}

/// Which options of `OpenOptions` are set.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub read: bool,
    pub write: bool,
    pub append: bool,
    pub truncate: bool,
    pub create: bool,
    pub create_new: bool,
    pub direct: bool,
    pub mode: u32,
}

#[derive(Clone, Debug)]
pub enum Call {
    Open { slot: usize, path: &'static str, options: Options },
    Close { slot: usize },
    Clone { slot: usize, into: usize },
    ReadAt { slot: usize, offset: u64, length: usize, how: How },
    WriteAt { slot: usize, offset: u64, length: usize, fill: u8, how: How },
    Seek { slot: usize, offset: i64, whence: usize },
    ReadOn { slot: usize, length: usize },
    WriteOn { slot: usize, length: usize, fill: u8 },
    SetLength { slot: usize, length: u64 },
    Allocate { slot: usize, offset: u64, length: u64, how: Allocation },
    Sync { slot: usize, data_only: bool },
    StatOpen { slot: usize },
    SetModeOf { slot: usize, mode: u32 },
    Read { path: &'static str },
    Write { path: &'static str, length: usize, fill: u8 },
    Copy { from: &'static str, to: &'static str },
    Rename { from: &'static str, to: &'static str },
    RemoveFile { path: &'static str },
    RemoveDirectory { path: &'static str },
    RemoveTree { path: &'static str },
    MakeDirectory { path: &'static str },
    MakeTree { path: &'static str },
    Link { from: &'static str, to: &'static str },
    Symlink { target: &'static str, path: &'static str },
    ReadLink { path: &'static str },
    Canonicalize { path: &'static str },
    Stat { path: &'static str, follow: bool },
    Metadata { path: &'static str, follow: bool },
    Exists { path: &'static str },
    SetMode { path: &'static str, mode: u32 },
    List { path: &'static str },
}

struct Drawn(Rng);

impl Drawn {
    fn path(&mut self) -> &'static str {
        let among = if self.0.u32(..4) > 0 { 7 } else { PATHS.len() };
        PATHS[self.0.usize(..among)]
    }

    fn tree(&mut self) -> &'static str {
        TREES[self.0.usize(..TREES.len())]
    }

    fn target(&mut self) -> &'static str {
        TARGETS[self.0.usize(..TARGETS.len())]
    }

    fn slot(&mut self) -> usize {
        self.0.usize(..SLOTS)
    }

    fn offset(&mut self) -> u64 {
        match self.0.u32(..6) {
            0 => self.0.u64(..600),
            1 => self.0.u64(3900..4200),
            2 => PAGE,
            3 => 2 * PAGE,
            4 => self.0.u64(..200_000),
            _ => self.0.u64(..20_000),
        }
    }

    fn length(&mut self) -> usize {
        match self.0.u32(..5) {
            0 => self.0.usize(..600),
            1 => 4096,
            2 => 8192,
            3 => self.0.usize(..70_000),
            _ => self.0.usize(..9000),
        }
    }

    fn fill(&mut self) -> u8 {
        self.0.u8(1..)
    }

    fn mode(&mut self) -> u32 {
        self.0.u32(..0o1000)
    }

    fn how(&mut self) -> How {
        [How::Plain, How::Exact, How::Fixed, How::Vectored][self.0.usize(..4)]
    }

    fn options(&mut self) -> Options {
        let mut one_in = |bound| self.0.u32(..bound) == 0;
        let mut options = Options {
            read: !one_in(4),
            write: !one_in(4),
            append: one_in(8),
            truncate: one_in(6),
            create: !one_in(3),
            create_new: one_in(8),
            direct: one_in(6),
            mode: 0o666,
        };
        // Where a direct file ends at no block, whether it can be appended to is the device's
        // matter.
        options.direct &= !options.append;
        if one_in(4) {
            options.mode = self.mode();
        }
        options
    }

    fn on_a_file(&mut self) -> Call {
        let slot = self.slot();
        match self.0.u32(..40) {
            0..10 => Call::Open { slot, path: self.path(), options: self.options() },
            10 => Call::Close { slot },
            11 => Call::Clone { slot, into: self.slot() },
            12..18 => {
                Call::ReadAt { slot, offset: self.offset(), length: self.length(), how: self.how() }
            }
            18..25 => {
                let (offset, length) = (self.offset(), self.length());
                Call::WriteAt { slot, offset, length, fill: self.fill(), how: self.how() }
            }
            25..27 => {
                Call::Seek { slot, offset: self.0.i64(-5000..9000), whence: self.0.usize(..3) }
            }
            27..29 => Call::ReadOn { slot, length: self.length() },
            29..31 => Call::WriteOn { slot, length: self.length(), fill: self.fill() },
            31..33 => Call::SetLength { slot, length: self.offset() },
            33..36 => {
                let how = [
                    Allocation::Extend,
                    Allocation::KeepLength,
                    Allocation::PunchHole,
                    Allocation::Zero,
                ][self.0.usize(..4)];
                Call::Allocate { slot, offset: self.offset(), length: self.offset(), how }
            }
            36 => Call::Sync { slot, data_only: self.0.bool() },
            37 => Call::SetModeOf { slot, mode: self.mode() },
            _ => Call::StatOpen { slot },
        }
    }

    fn on_names(&mut self) -> Call {
        let path = self.path();
        match self.0.u32(..41) {
            0..2 => Call::Read { path },
            2..7 => Call::Write { path, length: self.length(), fill: self.fill() },
            7..9 => Call::Copy { from: path, to: self.path() },
            9..15 => Call::Rename { from: path, to: self.path() },
            15..17 => Call::RemoveFile { path },
            17..19 => Call::RemoveDirectory { path },
            19 => Call::RemoveTree { path: self.tree() },
            20..24 => Call::MakeDirectory { path },
            24..26 => Call::MakeTree { path: self.tree() },
            26..28 => Call::Link { from: path, to: self.path() },
            28..31 => Call::Symlink { target: self.target(), path },
            31 => Call::ReadLink { path },
            32 => Call::Canonicalize { path },
            33..35 => Call::Stat { path, follow: self.0.bool() },
            35 => Call::Metadata { path, follow: self.0.bool() },
            36 => Call::Exists { path },
            37 => Call::SetMode { path, mode: self.mode() },
            _ => Call::List { path },
        }
    }
}

/// The sequence of a seed. Three of four begin with something there.
pub fn program(seed: u64, calls: usize) -> Vec<Call> {
    let mut drawn = Drawn(Rng::with_seed(seed));
    let mut program = Vec::new();
    if !seed.is_multiple_of(4) {
        program.push(Call::MakeTree { path: "d/e" });
        for path in ["a", "b", "d/a", "d/e/a"] {
            program.push(Call::Write { path, length: drawn.length(), fill: drawn.fill() });
        }
        program.push(Call::Symlink { target: drawn.target(), path: "l" });
        let options = Options { read: true, write: true, mode: 0o666, ..Options::default() };
        for (slot, path) in ["a", "b", "d/a", "d/e/a"].into_iter().enumerate() {
            program.push(Call::Open { slot, path, options });
        }
    }
    while program.len() < calls {
        let is_on_a_file = drawn.0.bool();
        program.push(if is_on_a_file { drawn.on_a_file() } else { drawn.on_names() });
    }
    program
}
