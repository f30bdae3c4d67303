//! The head of a request.

use http::{Method, StatusCode};
use httparse::Status;

use crate::conditions::Conditions;
use crate::target::Target;

/// The bytes of a head at most.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The bytes of a body that are read and thrown away, so that a connection stays.
const BODY_BYTES_MAX: u64 = 1 << 20;

/// The header fields of a head at most.
const FIELDS_MAX: usize = 100;

/// What a client asks for.
#[derive(Debug)]
pub struct Request {
    pub method: Method,
    pub target: Target,
    /// What follows the path in the target, with its question mark.
    pub query: String,
    /// Whether another request may follow on the connection.
    pub stays: bool,
    /// The bytes of a body behind the head. Nobody wants them.
    pub body: u64,
    pub conditions: Conditions,
    pub range: Option<Vec<u8>>,
}

/// Why a request is not served.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    /// Whether the client asked for a head alone.
    pub is_head: bool,
}

impl Request {
    /// The request at the beginning of what has come, and how many bytes its head has; `None` if
    /// there is no whole one yet.
    pub fn parse(bytes: &[u8]) -> Result<Option<(usize, Request)>, Refusal> {
        match minor_digit(bytes) {
            // Of a later version with the same major number is understood what is in 1.1.
            Some((place, b'2'..=b'9')) => {
                let mut alike = bytes.to_vec();
                alike[place] = b'1';
                Request::parse_known(&alike)
            }
            _ => Request::parse_known(bytes),
        }
    }

    fn parse_known(bytes: &[u8]) -> Result<Option<(usize, Request)>, Refusal> {
        let is_head = bytes.trim_ascii_start().starts_with(b"HEAD ");
        let refuse = |status| Refusal { status, is_head };
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut head = httparse::Request::new(&mut fields);
        match head.parse(bytes) {
            Ok(Status::Complete(length)) if length <= HEAD_BYTES_MAX => {
                Fields::read(&head).map(|request| Some((length, request))).map_err(refuse)
            }
            Ok(Status::Partial) if bytes.len() < HEAD_BYTES_MAX => Ok(None),
            Ok(_) if head.path.is_none() => Err(refuse(StatusCode::URI_TOO_LONG)),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => {
                Err(refuse(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE))
            }
            Err(httparse::Error::Version) if is_later(bytes) => {
                Err(refuse(StatusCode::HTTP_VERSION_NOT_SUPPORTED))
            }
            Err(_) => Err(refuse(StatusCode::BAD_REQUEST)),
        }
    }
}

/// The first line, as far as it has come.
fn first_line(bytes: &[u8]) -> &[u8] {
    let begun = bytes.trim_ascii_start();
    begun.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii_end()
}

/// The minor number of HTTP/1, and where it stands.
fn minor_digit(bytes: &[u8]) -> Option<(usize, u8)> {
    let begin = bytes.len() - bytes.trim_ascii_start().len();
    let (&digit, before) = first_line(bytes).split_last()?;
    before.ends_with(b" HTTP/1.").then_some((begin + before.len(), digit))
}

/// Whether the first line ends with a version of HTTP that is not even alike.
fn is_later(bytes: &[u8]) -> bool {
    let version = first_line(bytes).rsplit(|&byte| byte == b' ').next().unwrap_or_default();
    matches!(version, [b'H', b'T', b'T', b'P', b'/', b'2'..=b'9', b'.', b'0'..=b'9'])
}

/// The fields of a head, each of which may be there once.
#[derive(Default)]
struct Fields {
    host: Option<String>,
    connection: String,
    length: Option<u64>,
    has_transfer_encoding: bool,
    conditions: Conditions,
    range: Option<Vec<u8>>,
}

impl Fields {
    fn read(head: &httparse::Request<'_, '_>) -> Result<Request, StatusCode> {
        let (Some(method), Some(path), Some(minor)) = (head.method, head.path, head.version) else {
            return Err(StatusCode::BAD_REQUEST);
        };
        if !method.bytes().all(|byte| byte.is_ascii_uppercase() || b"_-".contains(&byte)) {
            return Err(StatusCode::BAD_REQUEST);
        }
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| StatusCode::BAD_REQUEST)?;
        let target = Target::parse(path.as_bytes())?;
        let mut fields = Fields::default();
        for field in head.headers.iter() {
            fields.take(field)?;
        }
        if minor == 1 && fields.host.is_none() {
            return Err(StatusCode::BAD_REQUEST);
        }
        if fields.has_transfer_encoding && fields.length.is_some() {
            return Err(StatusCode::BAD_REQUEST);
        }
        let says = |word: &str| {
            fields.connection.split(',').any(|one| one.trim().eq_ignore_ascii_case(word))
        };
        let stays = if minor == 1 { !says("close") } else { says("keep-alive") };
        let body = fields.length.unwrap_or(0);
        Ok(Request {
            method,
            target,
            query: path.find('?').map_or("", |at| &path[at..]).to_owned(),
            // Where a body of pieces ends is not looked for.
            stays: stays && !fields.has_transfer_encoding && body <= BODY_BYTES_MAX,
            body,
            conditions: fields.conditions,
            range: fields.range,
        })
    }

    fn take(&mut self, field: &httparse::Header<'_>) -> Result<(), StatusCode> {
        let text = || String::from_utf8_lossy(field.value).trim().to_owned();
        let conditions = &mut self.conditions;
        let place = match field.name.to_ascii_lowercase().as_str() {
            "host" if self.host.is_some() || !is_host(field.value) => {
                return Err(StatusCode::BAD_REQUEST);
            }
            "host" => &mut self.host,
            "connection" => {
                self.connection.extend([",", &text()]);
                return Ok(());
            }
            "content-length" => {
                let digits = field.value.iter().all(u8::is_ascii_digit).then(text);
                let length = digits.and_then(|digits| digits.parse().ok());
                let is_first = self.length.is_none();
                self.length = length.filter(|_| is_first);
                return self.length.map(drop).ok_or(StatusCode::BAD_REQUEST);
            }
            "transfer-encoding" => {
                self.has_transfer_encoding = true;
                let is_known = field.value.trim_ascii().eq_ignore_ascii_case(b"chunked");
                return is_known.then_some(()).ok_or(StatusCode::NOT_IMPLEMENTED);
            }
            "range" => {
                self.range.get_or_insert_with(|| field.value.to_vec());
                return Ok(());
            }
            "if-match" => &mut conditions.if_match,
            "if-none-match" => &mut conditions.if_none_match,
            "if-modified-since" => &mut conditions.if_modified_since,
            "if-unmodified-since" => &mut conditions.if_unmodified_since,
            "if-range" => &mut conditions.if_range,
            _ => return Ok(()),
        };
        place.get_or_insert_with(text);
        Ok(())
    }
}

/// A name or an address, and maybe a port.
fn is_host(value: &[u8]) -> bool {
    let value = value.trim_ascii();
    !value.is_empty()
        && value.iter().all(|&byte| byte.is_ascii_alphanumeric() || b".-_:[]~%".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> u16 {
        Request::parse(text.as_bytes()).unwrap_err().status.as_u16()
    }

    #[test]
    fn a_head_is_taken_apart() {
        let text = "GET /a/b?c HTTP/1.1\r\nhost: x\r\nRange: bytes=0-1\r\nIf-Match: \"y\"\r\n\
                    Content-Length: 3\r\n\r\nabcGET";
        let (length, request) = Request::parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!(&text[length..], "abcGET");
        assert_eq!((request.method, request.body, request.stays), (Method::GET, 3, true));
        assert_eq!(request.target.path.to_str(), Some("a/b"));
        assert_eq!(request.query, "?c");
        assert_eq!(request.range.as_deref(), Some(&b"bytes=0-1"[..]));
        assert_eq!(request.conditions.if_match.as_deref(), Some("\"y\""));
    }

    #[test]
    fn whether_a_connection_stays_depends_on_the_version() {
        for (text, expected) in [
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: x\r\nConnection: foo, Close\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n", false),
            ("GET / HTTP/1.2\r\nHost: x\r\n\r\n", true),
            ("\r\nGET / HTTP/1.9\r\nHost: x\r\nConnection: close\r\n\r\n", false),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true),
        ] {
            let (_, request) = Request::parse(text.as_bytes()).unwrap().unwrap();
            assert_eq!(request.stays, expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for (text, status) in [
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
            ("get / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /../x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
            ("GET / HTTP/1.2\r\n\r\n", 400),
            ("GET / HTTP/1.x\r\nHost: a\r\n\r\n", 400),
            ("GET / HTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
            ("\0\0\0", 400),
        ] {
            assert_eq!(refused(text), status, "{text}");
        }
        let long = "a".repeat(HEAD_BYTES_MAX);
        assert_eq!(refused(&format!("GET /{long}")), 414);
        assert_eq!(refused(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}")), 431);
        let many = "X: y\r\n".repeat(FIELDS_MAX + 1);
        assert_eq!(refused(&format!("GET / HTTP/1.1\r\n{many}\r\n")), 431);
    }

    #[test]
    fn a_part_of_a_head_is_waited_for() {
        for text in ["HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", "GET /a HTTP/1.7\r\nHost: x\r\n\r\n"] {
            for end in 0..text.len() {
                assert!(Request::parse(&text.as_bytes()[..end]).unwrap().is_none(), "{end}");
            }
        }
        let refusal = Request::parse(b"HEAD / HTTP/1.1\r\n\r\n").unwrap_err();
        assert_eq!(refusal, Refusal { status: StatusCode::BAD_REQUEST, is_head: true });
    }
}
