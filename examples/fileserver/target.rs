//! Which file a request is for.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use http::StatusCode;

/// The file that a request names, below the root.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    /// Relative, without `.` and `..`; empty for the root itself.
    pub path: PathBuf,
    /// Whether it ends like a directory.
    pub is_directory: bool,
}

impl Target {
    /// Takes the target of a request line apart. What begins with a scheme and a host is a proxy's
    /// form, which every server has to understand.
    pub fn parse(text: &[u8]) -> Result<Target, StatusCode> {
        let path = path_of(text).ok_or(StatusCode::BAD_REQUEST)?;
        let decoded = decode(path).ok_or(StatusCode::BAD_REQUEST)?;
        let mut parts: Vec<&[u8]> = Vec::new();
        let mut is_directory = true;
        for part in decoded.split(|&byte| byte == b'/') {
            is_directory = matches!(part, b"" | b"." | b"..");
            match part {
                b"" | b"." => {}
                b".." => drop(parts.pop().ok_or(StatusCode::BAD_REQUEST)?),
                name => parts.push(name),
            }
        }
        let path = parts.into_iter().map(OsStr::from_bytes).collect();
        Ok(Target { path, is_directory })
    }
}

/// The path of a target, without its query.
fn path_of(text: &[u8]) -> Option<&[u8]> {
    let path = if text.starts_with(b"/") {
        text
    } else {
        let scheme = text.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"http://"));
        let rest = scheme.then(|| &text[7..])?;
        match rest.iter().position(|byte| b"/?#".contains(byte)) {
            Some(0) => return None,
            Some(end) if rest[end] == b'/' => &rest[end..],
            _ if rest.is_empty() => return None,
            _ => b"/",
        }
    };
    path.split(|byte| b"?#".contains(byte)).next()
}

/// Every `%41` becomes the byte that it stands for. No name has a zero byte.
fn decode(path: &[u8]) -> Option<Vec<u8>> {
    let is_escape = |rest: &[u8]| {
        rest.len() >= 2 && rest[..2].iter().all(u8::is_ascii_hexdigit) && &rest[..2] != b"00"
    };
    let mut rest = path;
    while let Some(at) = rest.iter().position(|&byte| byte == b'%') {
        rest = &rest[at + 1..];
        if !is_escape(rest) {
            return None;
        }
    }
    let decoded: Vec<u8> = percent_encoding::percent_decode(path).collect();
    (!decoded.contains(&0)).then_some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Result<(String, bool), StatusCode> {
        let target = Target::parse(text.as_bytes())?;
        Ok((target.path.to_str().unwrap().to_owned(), target.is_directory))
    }

    #[test]
    fn dots_and_slashes_are_resolved() {
        for (text, expected) in [
            ("/a/b", "a/b"),
            ("//a///b", "a/b"),
            ("/./a/./b", "a/b"),
            ("/a/../b", "b"),
            ("/%61%2fb?c=/d#e", "a/b"),
            ("/a+b%20c%3f", "a+b c?"),
            ("http://host:80/a", "a"),
            ("HTTP://host/a?b", "a"),
        ] {
            assert_eq!(path(text), Ok((expected.to_owned(), false)), "{text}");
        }
        for (text, expected) in
            [("/", ""), ("/a/", "a"), ("/a/.", "a"), ("/a/b/..", "a"), ("http://host", "")]
        {
            assert_eq!(path(text), Ok((expected.to_owned(), true)), "{text}");
        }
    }

    #[test]
    fn no_way_leads_out_of_the_root() {
        for text in ["/..", "/../a", "/a/../../b", "/%2e%2e/a", "/a/%2E./../../b", "/..%2fa"] {
            assert_eq!(path(text), Err(StatusCode::BAD_REQUEST), "{text}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in ["", "a", "*", "/%", "/%4", "/%zz", "/%00", "/a%00b", "http://", "ftp://a/b"] {
            assert_eq!(path(text), Err(StatusCode::BAD_REQUEST), "{text}");
        }
    }
}
