//! The parts of a file that a request asks for.

use std::ops::Range;

/// More ranges than this are a client's error, or an attack: it gets the whole file.
const RANGES_MAX: usize = 100;

/// What a `Range` header comes to, for a file of some length.
#[derive(Debug, PartialEq, Eq)]
pub enum Ranges {
    /// All of it: the header says nothing of bytes, or asks for more of them than there are.
    Whole,
    /// At least one, none of them empty, in the order of the header.
    Parts(Vec<Range<u64>>),
    Unsatisfiable,
}

impl Ranges {
    pub fn parse(header: &[u8], length: u64) -> Ranges {
        let Some(list) = strip_unit(header) else { return Ranges::Whole };
        let mut parts: Vec<Range<u64>> = Vec::new();
        for text in list.split(|&byte| byte == b',') {
            let Some(range) = range_of(text, length) else { return Ranges::Unsatisfiable };
            if !range.is_empty() {
                parts.push(range);
            } else if range.start == 0 {
                // The file is empty.
                return Ranges::Whole;
            }
        }
        let bytes: u64 =
            parts.iter().map(|range| range.end - range.start).fold(0, u64::saturating_add);
        if parts.is_empty() {
            Ranges::Unsatisfiable
        } else if bytes > length || parts.len() > RANGES_MAX {
            Ranges::Whole
        } else {
            Ranges::Parts(parts)
        }
    }
}

fn strip_unit(header: &[u8]) -> Option<&[u8]> {
    let (unit, list) = header.split_at_checked(6)?;
    (unit.eq_ignore_ascii_case(b"bytes=") && !list.is_empty()).then_some(list)
}

/// `None` for what is no range. One that begins behind the end is empty, and begins there.
fn range_of(text: &[u8], length: u64) -> Option<Range<u64>> {
    let text = std::str::from_utf8(text).ok()?.trim_matches(' ');
    let (first, last) = text.split_once('-')?;
    let number = |text: &str| {
        let text = text.trim_matches(' ');
        let are_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        are_digits.then(|| text.parse::<u64>().ok()).flatten()
    };
    if first.is_empty() {
        return Some(length.saturating_sub(number(last)?)..length);
    }
    let begin = number(first)?;
    let end = match last.trim_matches(' ') {
        "" => length,
        last => number(last)?.saturating_add(1).min(length),
    };
    Some(begin..end.max(begin)).map(|range| if begin < length { range } else { length..length })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_at_the_end() {
        for (text, expected) in [
            ("bytes=0-4", vec![0..5]),
            ("bytes=5-", vec![5..10]),
            ("bytes=-3", vec![7..10]),
            ("bytes=-30", vec![0..10]),
            ("bytes=3-300", vec![3..10]),
            ("BYTES=0-0,2-3, -1", vec![0..1, 2..4, 9..10]),
            ("bytes=20-30,1-1", vec![1..2]),
        ] {
            assert_eq!(Ranges::parse(text.as_bytes(), 10), Ranges::Parts(expected), "{text}");
        }
    }

    #[test]
    fn what_asks_for_nothing_gets_nothing() {
        for text in
            ["bytes=10-", "bytes=-0", "bytes=5-4", "bytes=a-b", "bytes=,", "bytes=1", "bytes=--1"]
        {
            assert_eq!(Ranges::parse(text.as_bytes(), 10), Ranges::Unsatisfiable, "{text}");
        }
    }

    #[test]
    fn what_is_more_than_the_file_gets_the_file() {
        let many = format!("bytes={}", vec!["0-0"; 101].join(","));
        for text in ["items=0-4", "byte", "bytes=", "bytes=0-,0-", &many] {
            assert_eq!(Ranges::parse(text.as_bytes(), 1000), Ranges::Whole, "{text}");
        }
        assert_eq!(Ranges::parse(b"bytes=0-4", 0), Ranges::Whole);
    }
}
