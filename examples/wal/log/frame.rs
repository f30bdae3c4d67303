//! Frames: what is written at once, and is there as a whole or not at all.
//!
//! ```text
//!   0      4          8        12      16      24                          a multiple of 4096
//!   ├──────┼──────────┼────────┼───────┼───────┼────────┬───────┬────────┬─ … ─┬───────┤
//!   │ kind │ checksum │ length │ count │ first │ length │ bytes │ length │     │ zeros │
//!   └──────┴──────────┴────────┴───────┴───────┴────────┴───────┴────────┴─ … ─┴───────┘
//!                     └──────────────── what the checksum is of ───────────────┘
//! ```
//!
//! A frame begins and ends between two pages, so that none is written twice: bytes that were
//! acknowledged are never in a page that a later write could tear.

use runtime::buffers::Lease;

/// Frames begin and end at a multiple of this.
pub const BLOCK_BYTES: usize = 4096;

/// The most that is written at once.
pub const FRAME_BYTES_MAX: usize = 64 << 10;

/// The longest record.
pub const RECORD_BYTES_MAX: usize = FRAME_BYTES_MAX - HEADER_BYTES - PREFIX_BYTES;

const HEADER_BYTES: usize = 24;
const PREFIX_BYTES: usize = 4;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Records of a segment.
    Records,
    /// A checkpoint's state.
    Checkpoint,
}

impl Kind {
    fn magic(self) -> [u8; 4] {
        match self {
            Kind::Records => *b"WALr",
            Kind::Checkpoint => *b"WALc",
        }
    }
}

/// A frame that is being filled, in the lease that it is written from.
#[derive(Debug)]
pub struct Draft {
    lease: Lease,
    count: u32,
}

impl Draft {
    /// An empty frame whose first record has the number `first`.
    pub fn new(mut lease: Lease, kind: Kind, first: u64) -> Draft {
        lease.clear();
        lease.resize(HEADER_BYTES, 0);
        lease[0..4].copy_from_slice(&kind.magic());
        lease[16..24].copy_from_slice(&first.to_le_bytes());
        Draft { lease, count: 0 }
    }

    /// Adds a record, or says that it doesn't fit.
    pub fn push(&mut self, record: &[u8]) -> bool {
        if self.lease.len() + PREFIX_BYTES + record.len() > FRAME_BYTES_MAX {
            return false;
        }
        self.lease.extend_from_slice(&(record.len() as u32).to_le_bytes());
        self.lease.extend_from_slice(record);
        self.count += 1;
        true
    }

    /// How many records are in it, and the lease, filled with all that is to be written.
    pub fn finish(self) -> (u64, Lease) {
        let Draft { mut lease, count } = self;
        let length = (lease.len() - HEADER_BYTES) as u32;
        lease[8..12].copy_from_slice(&length.to_le_bytes());
        lease[12..16].copy_from_slice(&count.to_le_bytes());
        let checksum = checksum(&lease[8..]);
        lease[4..8].copy_from_slice(&checksum.to_le_bytes());
        let whole = lease.len().next_multiple_of(BLOCK_BYTES);
        lease.resize(whole, 0);
        (count.into(), lease)
    }
}

/// A frame that was read, and is sound.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The number of its first record.
    pub first: u64,
    /// How many records it has.
    pub count: u64,
    /// How many bytes it takes in its file.
    pub bytes: usize,
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame at the beginning of `bytes`, if a whole one of this kind is there.
    pub fn parse(bytes: &'a [u8], kind: Kind) -> Option<Frame<'a>> {
        let header = bytes.first_chunk::<HEADER_BYTES>()?;
        let number = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let length = number(8) as usize;
        if header[0..4] != kind.magic() || length > FRAME_BYTES_MAX - HEADER_BYTES {
            return None;
        }
        let filled = HEADER_BYTES + length;
        let whole = bytes.get(..filled.next_multiple_of(BLOCK_BYTES))?;
        if number(4) != checksum(&whole[8..filled]) {
            return None;
        }
        Some(Frame {
            first: u64::from(number(16)) | u64::from(number(20)) << 32,
            count: number(12).into(),
            bytes: whole.len(),
            body: &whole[HEADER_BYTES..filled],
        })
    }

    /// The records with their numbers.
    pub fn records(&self) -> impl Iterator<Item = (u64, &'a [u8])> + use<'a> {
        let mut rest = self.body;
        (self.first..self.first + self.count).map_while(move |number| {
            let (length, behind) = rest.split_first_chunk::<PREFIX_BYTES>()?;
            let (record, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            rest = behind;
            Some((number, record))
        })
    }
}

/// CRC-32C, by which storage devices and file systems know their bytes.
fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| TABLE[usize::from(sum as u8 ^ byte)] ^ (sum >> 8))
}

const TABLE: [u32; 256] = {
    const POLYNOMIAL: u32 = 0x82F6_3B78;
    let mut table = [0; 256];
    let mut index = 0;
    while index < table.len() {
        let mut sum = index as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = (sum >> 1) ^ (POLYNOMIAL * (sum & 1));
            bit += 1;
        }
        table[index] = sum;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc_32c() {
        assert_eq!(checksum(b"123456789"), 0xE306_9283);
        assert_eq!(checksum(b""), 0);
    }
}
