//! The lines that `sha256sum` prints and reads: `<hex>  <name>`, with a backslash in front where
//! the name is escaped.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A SHA-256.
pub type Digest = [u8; 32];

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The line of one file, with its newline.
pub fn format(digest: &Digest, name: &Path) -> Vec<u8> {
    let name = name.as_os_str().as_bytes();
    let is_escaped = name.iter().any(|byte| matches!(byte, b'\\' | b'\n' | b'\r'));
    let mut line = Vec::with_capacity(name.len() + 68);
    if is_escaped {
        line.push(b'\\');
    }
    for byte in digest {
        line.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
    line.extend_from_slice(b"  ");
    push_name(&mut line, name, is_escaped);
    line.push(b'\n');
    line
}

/// The line that tells what became of one file of a list, with its newline.
pub fn verdict(name: &Path, verdict: &str) -> Vec<u8> {
    let name = name.as_os_str().as_bytes();
    // Only a newline would break this line, so only that has the name escaped; so it is with
    // sha256sum.
    let is_escaped = name.contains(&b'\n');
    let mut line = Vec::with_capacity(name.len() + verdict.len() + 4);
    if is_escaped {
        line.push(b'\\');
    }
    push_name(&mut line, name, is_escaped);
    line.extend_from_slice(b": ");
    line.extend_from_slice(verdict.as_bytes());
    line.push(b'\n');
    line
}

fn push_name(line: &mut Vec<u8>, name: &[u8], is_escaped: bool) {
    for &byte in name {
        match byte {
            b'\\' if is_escaped => line.extend_from_slice(b"\\\\"),
            b'\n' if is_escaped => line.extend_from_slice(b"\\n"),
            b'\r' if is_escaped => line.extend_from_slice(b"\\r"),
            byte => line.push(byte),
        }
    }
}

/// Reads a line of a list, without its newline; `None` for one that is not well formed.
pub fn parse(line: &[u8]) -> Option<(Digest, PathBuf)> {
    let line = line.trim_ascii_start();
    let (is_escaped, line) = match line.strip_prefix(b"\\") {
        Some(line) => (true, line),
        None => (false, line),
    };
    let (hex, rest) = line.split_at_checked(64)?;
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    let name = rest.strip_prefix(b"  ").or_else(|| rest.strip_prefix(b" *"))?;
    if name.is_empty() {
        return None;
    }
    let name = if is_escaped { unescape(name)? } else { name.to_vec() };
    Some((digest, OsString::from_vec(name).into()))
}

fn value(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

fn unescape(name: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(&byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => match bytes.next()? {
                b'\\' => b'\\',
                b'n' => b'\n',
                b'r' => b'\r',
                _ => return None,
            },
            byte => byte,
        });
    }
    Some(plain)
}
