//! HTTP: from a request to what it asks for, and from a file to a response. Pure but for reading
//! the passed descriptor.

use std::fs::File;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};
use tokio::sync::OwnedSemaphorePermit;

use crate::path;
use crate::protocol::Found;
use crate::range::{self, Part};

/// How much of a file is read at once, in bytes.
const CHUNK: usize = 64 << 10;

/// The last second that an HTTP date can say: the end of the year 9999.
const LAST_SECOND: u64 = 253_402_300_799;

/// The path that a request asks for, or the response that it gets at once.
pub(crate) fn asked<B>(request: &Request<B>) -> Result<&str, Box<Response<Body>>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = failure(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Err(response.into());
    }
    // RFC 9112 section 3.2: exactly one Host. HTTP/2 has `:authority` instead.
    if request.version() == Version::HTTP_11
        && request.headers().get_all(header::HOST).iter().count() != 1
    {
        return Err(failure(StatusCode::BAD_REQUEST, "a request has exactly one Host").into());
    }
    let path = request.uri().path();
    if path.len() > path::MAX {
        return Err(failure(StatusCode::URI_TOO_LONG, "no page has so long a name").into());
    }
    Ok(path)
}

/// The response that carries a file, or the part of it that was asked for, or the news that the
/// client has it already (RFC 9110 sections 13 and 14).
pub(crate) fn file<B>(request: &Request<B>, found: &Found, content: OpenFile) -> Response<Body> {
    let headers = request.headers();
    let tag = entity_tag(found);
    let modified = UNIX_EPOCH + Duration::from_secs(found.modified.0.min(LAST_SECOND));
    let date = httpdate::fmt_http_date(modified);

    let part = if is_unchanged(headers, found, &tag) {
        None
    } else if request.method() == Method::GET && range_counts(headers, &tag, &date) {
        Some(
            text(headers, &header::RANGE)
                .map_or(Part::Whole, |range| range::part(range, found.size)),
        )
    } else {
        Some(Part::Whole)
    };

    let (status, bytes, content_range) = match part {
        None => (StatusCode::NOT_MODIFIED, None, None),
        Some(Part::Whole) => (StatusCode::OK, Some((0, found.size)), None),
        Some(Part::Bytes { first, last }) => (
            StatusCode::PARTIAL_CONTENT,
            Some((first, last - first + 1)),
            Some(format!("bytes {first}-{last}/{}", found.size)),
        ),
        Some(Part::Unsatisfiable) => {
            let mut response = failure(StatusCode::RANGE_NOT_SATISFIABLE, "no such bytes");
            set(&mut response, header::CONTENT_RANGE, format!("bytes */{}", found.size));
            return response;
        }
    };

    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    set(&mut response, header::ETAG, tag);
    set(&mut response, header::LAST_MODIFIED, date);
    response.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some((offset, length)) = bytes {
        set(&mut response, header::CONTENT_TYPE, found.content_type.clone());
        response
            .headers_mut()
            .insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        *response.body_mut() = Body(Content::File { content, offset, left: length });
    }
    if let Some(range) = content_range {
        set(&mut response, header::CONTENT_RANGE, range);
    }
    response
}

/// The response that sends the client to another path of this server.
pub(crate) fn moved<B>(request: &Request<B>, to: String) -> Response<Body> {
    let mut response = failure(StatusCode::MOVED_PERMANENTLY, "a directory ends with a slash");
    let to = match request.uri().query() {
        Some(query) => format!("{to}?{query}"),
        None => to,
    };
    set(&mut response, header::LOCATION, to);
    response
}

/// A response without a file: a line of text that says why.
pub(crate) fn failure(status: StatusCode, why: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{status}: {why}\n")));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// The response as it goes out: it says its length, and the answer to a HEAD is left at that.
pub(crate) fn finished<B>(request: &Request<B>, mut response: Response<Body>) -> Response<Body> {
    let length = response.body().size_hint().exact();
    if let (Some(length), true) = (length, response.status() != StatusCode::NOT_MODIFIED) {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    if request.method() == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    response
}

/// The entity tag: strong, for it changes with every write that the clock can tell apart.
fn entity_tag(found: &Found) -> String {
    format!("\"{:x}-{:x}-{:x}\"", found.size, found.modified.0, found.modified.1)
}

/// Whether the client's copy is the current one (RFC 9110 sections 13.1.2 and 13.1.3).
fn is_unchanged(headers: &HeaderMap, found: &Found, tag: &str) -> bool {
    if headers.contains_key(header::IF_NONE_MATCH) {
        return headers
            .get_all(header::IF_NONE_MATCH)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag);
    }
    text(headers, &header::IF_MODIFIED_SINCE)
        .and_then(|date| httpdate::parse_http_date(date).ok())
        .and_then(|since| since.duration_since(UNIX_EPOCH).ok())
        .is_some_and(|since| found.modified.0 <= since.as_secs())
}

/// Whether `Range` is to be looked at: without `If-Range`, or where that names this very version
/// (RFC 9110 section 13.1.5).
fn range_counts(headers: &HeaderMap, tag: &str, date: &str) -> bool {
    match headers.get(header::IF_RANGE) {
        None => true,
        Some(version) => version == tag || version == date,
    }
}

/// The one value of a header, if it has one and that is text.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// Sets a header, unless its value has bytes that no header may have.
fn set(response: &mut Response<Body>, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        response.headers_mut().insert(name, value);
    }
}

/// A file to send from, and the permit that counts it.
#[derive(Debug)]
pub(crate) struct OpenFile {
    /// The descriptor that the opener passed. Its position is not used.
    pub(crate) file: File,
    /// Given back when the body has been sent or given up.
    pub(crate) _permit: Option<OwnedSemaphorePermit>,
}

/// A response's body.
#[derive(Debug)]
pub(crate) struct Body(Content);

#[derive(Debug)]
enum Content {
    Text(Bytes),
    File { content: OpenFile, offset: u64, left: u64 },
}

impl Body {
    fn empty() -> Self {
        Self(Content::Text(Bytes::new()))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self(Content::Text(text.into()))
    }
}

impl OpenFile {
    /// Reads up to [`CHUNK`] and at most `left` bytes, at least one.
    fn chunk(&self, offset: u64, left: u64) -> io::Result<Bytes> {
        let length = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let mut chunk = Vec::with_capacity(length);
        loop {
            let spare = rustix::buffer::spare_capacity(&mut chunk);
            match rustix::io::pread(&self.file, spare, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        chunk.truncate(length);
        Ok(chunk.into())
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    /// Reads without waiting: what a site serves is nearly always in the page cache.
    ///
    /// A file that has become shorter meanwhile ends the connection: its length has been said
    /// already, and filling up would be lying.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let chunk = match &mut self.0 {
            Content::Text(text) if text.is_empty() => return Poll::Ready(None),
            Content::Text(text) => Ok(std::mem::take(text)),
            Content::File { left: 0, .. } => return Poll::Ready(None),
            Content::File { content, offset, left } => {
                content.chunk(*offset, *left).inspect(|chunk| {
                    *offset += chunk.len() as u64;
                    *left -= chunk.len() as u64;
                })
            }
        };
        Poll::Ready(Some(chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.size_hint().exact() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match &self.0 {
            Content::Text(text) => text.len() as u64,
            Content::File { left, .. } => *left,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::io::Write;

    const TEXT: &[u8] = b"0123456789";

    fn found(size: u64) -> Found {
        Found { size, modified: (784_111_777, 5), content_type: "text/plain".to_owned() }
    }

    fn content(bytes: &[u8]) -> OpenFile {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        OpenFile { file, _permit: None }
    }

    fn get(method: &str, headers: &[(&str, &str)]) -> Response<Body> {
        let mut request = Request::builder().method(method).uri("/x?q");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        finished(&request, file(&request, &found(TEXT.len() as u64), content(TEXT)))
    }

    fn body(response: Response<Body>) -> Result<Bytes, io::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(response.into_body().collect()).map(http_body_util::Collected::to_bytes)
    }

    fn header<'a>(response: &'a Response<Body>, name: &str) -> &'a str {
        response.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[test]
    fn a_whole_file() {
        let response = get("GET", &[]);
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "content-length"), "10");
        assert_eq!(header(&response, "content-type"), "text/plain");
        assert_eq!(header(&response, "accept-ranges"), "bytes");
        assert_eq!(header(&response, "last-modified"), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(body(response).unwrap(), TEXT);
    }

    #[test]
    fn a_head_has_the_headers_and_no_body() {
        let response = get("HEAD", &[("range", "bytes=1-2")]);
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "content-length"), "10");
        assert_eq!(body(response).unwrap(), "");

        let request = Request::head("/x").body(()).unwrap();
        let missing = finished(&request, failure(StatusCode::NOT_FOUND, "x"));
        assert_eq!(header(&missing, "content-length"), "17");
        assert_eq!(body(missing).unwrap(), "");
    }

    #[test]
    fn parts_of_a_file() {
        let response = get("GET", &[("range", "bytes=2-4")]);
        assert_eq!(response.status(), 206);
        assert_eq!(header(&response, "content-range"), "bytes 2-4/10");
        assert_eq!(header(&response, "content-length"), "3");
        assert_eq!(body(response).unwrap(), "234");

        let response = get("GET", &[("range", "bytes=-4")]);
        assert_eq!(body(response).unwrap(), "6789");

        let response = get("GET", &[("range", "bytes=10-")]);
        assert_eq!(response.status(), 416);
        assert_eq!(header(&response, "content-range"), "bytes */10");

        let twice = get("GET", &[("range", "bytes=0-1"), ("range", "bytes=2-3")]);
        assert_eq!(twice.status(), 200);
    }

    #[test]
    fn what_the_client_has_is_not_sent_again() {
        let tag = header(&get("GET", &[]), "etag").to_owned();
        let list = format!("\"other\", W/{tag}");
        for known in [tag.as_str(), "*", &list] {
            let response = get("GET", &[("if-none-match", known)]);
            assert_eq!(response.status(), 304, "{known}");
            assert_eq!(header(&response, "content-length"), "");
            assert_eq!(header(&response, "etag"), tag);
            assert_eq!(body(response).unwrap(), "");
        }
        let date = |date| get("GET", &[("if-modified-since", date)]).status();
        assert_eq!(date("Sun, 06 Nov 1994 08:49:37 GMT"), 304);
        assert_eq!(date("Sun, 06 Nov 1994 08:49:36 GMT"), 200);
        assert_eq!(date("yesterday"), 200);
        // The tag decides where both are there.
        let both =
            [("if-none-match", "\"x\""), ("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT")];
        assert_eq!(get("GET", &both).status(), 200);
    }

    #[test]
    fn a_range_of_another_version_is_the_whole() {
        let tag = header(&get("GET", &[]), "etag").to_owned();
        let status =
            |version| get("GET", &[("range", "bytes=0-1"), ("if-range", version)]).status();
        assert_eq!(status(tag.as_str()), 206);
        assert_eq!(status("Sun, 06 Nov 1994 08:49:37 GMT"), 206);
        assert_eq!(status("\"old\""), 200);
        assert_eq!(status(&format!("W/{tag}")), 200);
    }

    #[test]
    fn a_file_that_shrank_is_an_error_and_one_that_grew_is_cut() {
        let request = Request::new(());
        body(file(&request, &found(11), content(TEXT))).unwrap_err();
        assert_eq!(body(file(&request, &found(9), content(TEXT))).unwrap(), "012345678");
        assert_eq!(body(file(&request, &found(0), content(b""))).unwrap(), "");
    }

    #[test]
    fn large_files_come_in_chunks() {
        let bytes: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let response = file(&Request::new(()), &found(bytes.len() as u64), content(&bytes));
        assert_eq!(body(response).unwrap(), bytes);
    }

    #[test]
    fn a_date_past_the_calendar_does_no_harm() {
        let late = Found { modified: (u64::MAX, 0), ..found(10) };
        let response = file(&Request::new(()), &late, content(TEXT));
        assert_eq!(header(&response, "last-modified"), "Fri, 31 Dec 9999 23:59:59 GMT");
        let hostile = Found { content_type: "a\r\nb: c".to_owned(), ..found(10) };
        assert_eq!(header(&file(&Request::new(()), &hostile, content(TEXT)), "content-type"), "");
    }

    #[test]
    fn requests_that_get_no_file() {
        let post = Request::post("/").header("host", "x").body(()).unwrap();
        let refused = asked(&post).unwrap_err();
        assert_eq!(refused.status(), 405);
        assert_eq!(header(&refused, "allow"), "GET, HEAD");

        let hostless = Request::get("/").body(()).unwrap();
        assert_eq!(asked(&hostless).unwrap_err().status(), 400);
        let two = Request::get("/").header("host", "a").header("host", "b").body(()).unwrap();
        assert_eq!(asked(&two).unwrap_err().status(), 400);

        let long = format!("/{}", "a".repeat(path::MAX));
        let long = Request::get(long).header("host", "x").body(()).unwrap();
        assert_eq!(asked(&long).unwrap_err().status(), 414);

        let request = Request::get("/a?b=c").header("host", "x").body(()).unwrap();
        assert_eq!(asked(&request).unwrap(), "/a");
        let response = moved(&request, "/a/".to_owned());
        assert_eq!(response.status(), 301);
        assert_eq!(header(&response, "location"), "/a/?b=c");
    }
}
