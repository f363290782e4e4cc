//! Answers: the page and its parts, JSON, and what went wrong.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::{Either, Full};
use hyper::body::{Body as HttpBody, Bytes, Frame};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use tokio::sync::mpsc::Receiver;

/// All at once, or bit by bit.
pub(super) type Body = Either<Full<Bytes>, Stream>;

/// What is sent bit by bit, as long as somebody sends.
pub(super) struct Stream(pub(super) Receiver<Bytes>);

impl HttpBody for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

const PAGES: [(&str, &str, &[u8]); 4] = [
    ("/", "text/html; charset=utf-8", include_bytes!("../site/index.html")),
    ("/screen.js", "text/javascript; charset=utf-8", include_bytes!("../site/screen.js")),
    ("/style.css", "text/css; charset=utf-8", include_bytes!("../site/style.css")),
    ("/icon.svg", "image/svg+xml", include_bytes!("../site/icon.svg")),
];

/// A part of the page.
pub(super) fn page(path: &str) -> Response<Body> {
    match PAGES.iter().find(|(known, ..)| *known == path) {
        Some((_, kind, bytes)) => {
            response(StatusCode::OK, kind, Either::Left(Full::from(Bytes::from_static(bytes))))
        }
        None => failure(StatusCode::NOT_FOUND, "there is no such page"),
    }
}

/// A value.
pub(super) fn json(value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => whole(StatusCode::OK, "application/json", bytes),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// Why not, in a line for people.
pub(super) fn failure(status: StatusCode, why: &str) -> Response<Body> {
    whole(status, "text/plain; charset=utf-8", format!("{why}\n").into_bytes())
}

/// Events, as they come.
pub(super) fn events(receiver: Receiver<Bytes>) -> Response<Body> {
    response(StatusCode::OK, "text/event-stream", Either::Right(Stream(receiver)))
}

fn whole(status: StatusCode, kind: &str, bytes: Vec<u8>) -> Response<Body> {
    response(status, kind, Either::Left(Full::from(bytes)))
}

fn response(status: StatusCode, kind: &str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Ok(kind) = HeaderValue::from_str(kind) {
        headers.insert(CONTENT_TYPE, kind);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Nothing but its own parts, in nobody's frame.
    let policy = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
    headers.insert("content-security-policy", HeaderValue::from_static(policy));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
    response
}
