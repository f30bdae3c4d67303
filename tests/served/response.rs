//! What a server answers, without what may differ.

use std::collections::BTreeMap;

/// The header fields that are not compared: who it is, when it was, and what RFC 9110 asks of a
/// 405, which nginx leaves out.
const NOT_COMPARED: [&str; 3] = ["server", "date", "allow"];

#[derive(PartialEq, Eq)]
pub struct Response {
    pub status: String,
    pub fields: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Response { status, fields, body } = self;
        let begin = body[..body.len().min(300)].escape_ascii();
        write!(f, "{status} {fields:?} and {} bytes: {begin}", body.len())
    }
}

impl Response {
    /// The responses that a connection has brought, whose requests are those of `request`.
    pub fn parse_all(request: &str, mut bytes: &[u8], tag: &str) -> Vec<Response> {
        let mut all = Vec::new();
        let is_head = request.starts_with("HEAD ");
        let is_last_head = request.contains("\n\r\nHEAD ");
        while !bytes.is_empty() {
            let is_head = if all.is_empty() { is_head } else { is_last_head };
            let (response, rest) = Response::parse(bytes, is_head, tag);
            all.push(response);
            bytes = rest;
        }
        all
    }

    fn parse<'a>(bytes: &'a [u8], is_head: bool, tag: &str) -> (Response, &'a [u8]) {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no head: {}", bytes.escape_ascii()));
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
        let mut fields: BTreeMap<String, String> = lines
            .map(|line| line.split_once(": ").unwrap_or_else(|| panic!("no field: {line}")))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .filter(|(name, _)| !NOT_COMPARED.contains(&name.as_str()))
            .collect();
        let length = fields.get("content-length").map_or(0, |length| length.parse().unwrap());
        let length = if is_head || status == "304" { 0 } else { length };
        let (body, rest) = bytes[end + 4..].split_at(length);
        let mut body = body.to_vec();
        if let Some(found) = fields.get_mut("etag") {
            // Each has its own for every file; that of one file is known.
            *found = if found == tag { "the tag of the file".into() } else { "a tag".into() };
        }
        if let Some(kind) = fields.get_mut("content-type")
            && let Some(at) = kind.find("boundary=")
        {
            let boundary = kind.split_off(at + 9);
            body = replaced(&body, boundary.as_bytes(), b"BOUNDARY");
        }
        if status == "301" {
            // What a person would read.
            body.clear();
            fields.remove("content-type");
            fields.remove("content-length");
        }
        (Response { status, fields, body }, rest)
    }
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(from.len()).position(|part| part == from) {
        all.extend_from_slice(&rest[..at]);
        all.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    all.extend_from_slice(rest);
    all
}
