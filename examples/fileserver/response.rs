//! What a request is answered with.

use std::fmt::Write;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::time::SystemTime;

use http::{Method, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use runtime::fs::File;

use crate::conditions::Verdict;
use crate::ranges::Ranges;
use crate::request::{Refusal, Request};
use crate::site::{Document, Found, Site};

/// What a path in an address can't have as it is.
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A head, and what follows it.
pub struct Response {
    pub head: Vec<u8>,
    pub body: Vec<Piece>,
    /// Whether the connection stays.
    pub stays: bool,
}

/// A piece of a body.
pub enum Piece {
    Text(Vec<u8>),
    Part(Rc<File>, Range<u64>),
}

/// A response before it is known what becomes of the connection.
struct Draft {
    status: StatusCode,
    /// Header fields, each with its line end.
    fields: String,
    length: u64,
    body: Vec<Piece>,
}

impl Response {
    /// Finds out what a request gets.
    pub async fn to(request: &Request, site: &Site) -> Response {
        let is_head = request.method == Method::HEAD;
        match draft(request, site).await {
            Ok(draft) => draft.finish(is_head, request.stays),
            Err(status) => Draft::error(status).finish(is_head, request.stays),
        }
    }

    /// The last response of a connection.
    pub fn refusal(refusal: &Refusal) -> Response {
        Draft::error(refusal.status).finish(refusal.is_head, false)
    }
}

async fn draft(request: &Request, site: &Site) -> Result<Draft, StatusCode> {
    let is_read = matches!(request.method, Method::GET | Method::HEAD);
    // A POST is told whether there is something that it could have been for.
    if !is_read && request.method != Method::POST {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    let document = match site.find(&request.target).await? {
        Found::File(document) => document,
        Found::Directory => return Ok(Draft::redirect(request)),
    };
    if !is_read {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    Ok(match request.conditions.judge(&document.version) {
        Verdict::Failed => return Err(StatusCode::PRECONDITION_FAILED),
        Verdict::NotModified => Draft::new(StatusCode::NOT_MODIFIED, &document),
        Verdict::Send => match ranges(request, &document) {
            Ranges::Whole => Draft::whole(document),
            Ranges::Parts(parts) if parts.len() == 1 => Draft::part(document, parts[0].clone()),
            Ranges::Parts(parts) => Draft::parts(&document, parts),
            Ranges::Unsatisfiable => {
                let mut draft = Draft::error(StatusCode::RANGE_NOT_SATISFIABLE);
                draft.field("Content-Range", format_args!("bytes */{}", document.length));
                draft.field("ETag", format_args!("{}", document.version.tag));
                draft
            }
        },
    })
}

fn ranges(request: &Request, document: &Document) -> Ranges {
    match &request.range {
        Some(range) if request.conditions.allow_range(&document.version) => {
            Ranges::parse(range, document.length)
        }
        _ => Ranges::Whole,
    }
}

impl Draft {
    /// With the fields that tell of a document's version.
    fn new(status: StatusCode, document: &Document) -> Draft {
        let mut draft = Draft { status, fields: String::new(), length: 0, body: Vec::new() };
        let modified = httpdate::fmt_http_date(document.version.modified);
        draft.field("Last-Modified", format_args!("{modified}"));
        draft.field("ETag", format_args!("{}", document.version.tag));
        draft
    }

    fn error(status: StatusCode) -> Draft {
        let text = format!("{status}\n").into_bytes();
        let length = text.len() as u64;
        let body = vec![Piece::Text(text)];
        let mut draft = Draft { status, fields: String::new(), length, body };
        draft.field("Content-Type", format_args!("text/plain"));
        if status == StatusCode::METHOD_NOT_ALLOWED {
            draft.field("Allow", format_args!("GET, HEAD"));
        }
        draft
    }

    /// To the same path with a slash at its end, on whatever host this is for the client.
    fn redirect(request: &Request) -> Draft {
        let path = percent_encode(request.target.path.as_os_str().as_bytes(), ENCODED);
        let mut draft = Draft::error(StatusCode::MOVED_PERMANENTLY);
        draft.field("Location", format_args!("/{path}/{}", request.query));
        draft
    }

    fn whole(document: Document) -> Draft {
        let mut draft = Draft::new(StatusCode::OK, &document);
        draft.field("Content-Type", format_args!("{}", document.media_type));
        draft.field("Accept-Ranges", format_args!("bytes"));
        draft.push(&document, 0..document.length);
        draft
    }

    fn part(document: Document, part: Range<u64>) -> Draft {
        let mut draft = Draft::new(StatusCode::PARTIAL_CONTENT, &document);
        draft.field("Content-Type", format_args!("{}", document.media_type));
        let Range { start, end } = part;
        let length = document.length;
        draft.field("Content-Range", format_args!("bytes {start}-{}/{length}", end - 1));
        draft.push(&document, part);
        draft
    }

    /// The parts as a message of many, each of which has a head of its own.
    fn parts(document: &Document, parts: Vec<Range<u64>>) -> Draft {
        let mut draft = Draft::new(StatusCode::PARTIAL_CONTENT, document);
        let boundary = format!("{:020}", fastrand::u64(..));
        draft.field("Content-Type", format_args!("multipart/byteranges; boundary={boundary}"));
        let Document { media_type, length, .. } = document;
        for part in parts {
            let (start, last) = (part.start, part.end - 1);
            draft.push_text(format!(
                "\r\n--{boundary}\r\nContent-Type: {media_type}\r\n\
                 Content-Range: bytes {start}-{last}/{length}\r\n\r\n"
            ));
            draft.push(document, part);
        }
        draft.push_text(format!("\r\n--{boundary}--\r\n"));
        draft
    }

    fn field(&mut self, name: &str, value: std::fmt::Arguments<'_>) {
        write!(self.fields, "{name}: {value}\r\n").expect("a string takes everything");
    }

    fn push(&mut self, document: &Document, part: Range<u64>) {
        self.length += part.end - part.start;
        self.body.push(Piece::Part(document.file.clone(), part));
    }

    fn push_text(&mut self, text: String) {
        self.length += text.len() as u64;
        self.body.push(Piece::Text(text.into_bytes()));
    }

    fn finish(mut self, is_head: bool, stays: bool) -> Response {
        // After these it is unclear where a next request would begin.
        let stays = stays
            && !matches!(
                self.status,
                StatusCode::BAD_REQUEST
                    | StatusCode::INTERNAL_SERVER_ERROR
                    | StatusCode::NOT_IMPLEMENTED
            );
        if self.status != StatusCode::NOT_MODIFIED {
            let length = self.length;
            self.field("Content-Length", format_args!("{length}"));
        }
        let Draft { status, fields, body, .. } = self;
        let date = httpdate::fmt_http_date(SystemTime::now());
        let connection = if stays { "keep-alive" } else { "close" };
        let head = format!(
            "HTTP/1.1 {status}\r\nServer: ringhold\r\nDate: {date}\r\nConnection: {connection}\r\n\
             {fields}\r\n"
        );
        Response { head: head.into_bytes(), body: if is_head { Vec::new() } else { body }, stays }
    }
}
