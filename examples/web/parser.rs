//! The parser: TLS and HTTP, in a process that has nothing to steal.
//!
//! It opens no file and no socket: the listener passes it connections, the opener passes it files,
//! the keeper signs its handshakes.

use std::convert::Infallible;
use std::error::Error;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustix::fs::OFlags;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::http::{self, Body, OpenFile};
use crate::idle::Idle;
use crate::protocol::{OpenReply, OpenRequest, Settings};
use crate::tls;
use cofferdam::Layer;
use cofferdam::ipc::message::{Channel, Event, Message};
use cofferdam::trace;

/// Connections that one parser serves at once. The next ones wait in the channel, then in the
/// listener, then in the kernel. With [`FILES`] it stays below the policy's `files = 1024`.
const CONNECTIONS: u32 = 400;

/// Files that one parser sends at once. A request past that waits for one to be done.
const FILES: usize = 400;

/// Handshakes and request heads take a round trip or two; these are for the slowest networks.
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEAD: Duration = Duration::from_secs(10);

/// A connection on which nothing moves for so long ends.
const IDLE: Duration = Duration::from_secs(30);

/// How long a request waits for the opener, restarts included.
const OPENING: Duration = Duration::from_secs(5);

/// The time between two questions to the opener.
const AGAIN: Duration = Duration::from_millis(50);

/// What one connection may buffer, in bytes; it bounds a request's head as well.
const BUFFER: usize = 64 << 10;

/// How much of a body that nobody asked for is read, in bytes.
const UNWANTED: usize = 64 << 10;

/// How long the listener's last connections are waited for when the daemon stops.
const LAST: Duration = Duration::from_millis(100);

/// How long a connection on which nobody asks stays open once the layer is to stop.
const ASKING: Duration = Duration::from_millis(500);

/// What of the layer's grace is left for its own end. The rest is for what is in flight.
const ENDING: Duration = Duration::from_secs(1);

/// The layer's function.
pub(crate) async fn parser(layer: Layer) -> Result<(), Box<dyn Error>> {
    let settings: Settings = postcard::from_bytes(layer.settings())?;
    let connections = layer.channel("connections")?;
    let parser = Arc::new(Parser {
        acceptor: tls::acceptor(&settings, layer.channel("sign")?)?,
        opener: layer.channel("open")?,
        files: Arc::new(Semaphore::new(FILES)),
        layer: layer.clone(),
    });
    let room = Arc::new(Semaphore::new(CONNECTIONS as usize));
    let (stop, _) = watch::channel(false);

    let mut stopping = pin!(async {
        layer.stopping().await;
        // What the listener had accepted before it stopped is served as well.
        sleep(LAST).await;
    });
    loop {
        let taken = async {
            let permit = Arc::clone(&room).acquire_owned().await.ok()?;
            Some((permit, connections.recv().await.ok()?))
        };
        let (permit, event) = tokio::select! {
            biased;
            () = &mut stopping => break,
            taken = taken => match taken {
                Some(taken) => taken,
                // The listener is gone for good, and no connection will come any more.
                None => break,
            },
        };
        if let Event::Request { mut message, reply, .. } = event
            && let Some(socket) = message.fds.pop()
        {
            let (parser, stop) = (Arc::clone(&parser), stop.subscribe());
            tokio::spawn(async move {
                let connection = reply.trace();
                // Until the listener hears this, it keeps the connection for another parser.
                let _ = reply.reply(Vec::new()).await;
                trace::within(connection, parser.serve(socket, stop)).await;
                drop(permit);
            });
        }
    }

    stop.send_replace(true);
    // Past the grace time the rest is cut off, which is not this layer's failure.
    let in_flight = layer.grace().saturating_sub(LAST + ENDING);
    let _ = timeout(in_flight, room.acquire_many(CONNECTIONS)).await;
    Ok(())
}

/// What all connections of one parser share.
struct Parser {
    acceptor: TlsAcceptor,
    opener: Channel,
    files: Arc<Semaphore>,
    layer: Layer,
}

impl Parser {
    /// Serves one connection to its end. Whatever goes wrong on it ends it and nothing else.
    async fn serve(self: Arc<Self>, socket: OwnedFd, mut stop: watch::Receiver<bool>) {
        // The flag belongs to the socket, so the listener has set it; tokio insists on it.
        if !rustix::fs::fcntl_getfl(&socket).is_ok_and(|flags| flags.contains(OFlags::NONBLOCK)) {
            return;
        }
        let Ok(stream) = TcpStream::from_std(socket.into()) else { return };
        let handshake = self.acceptor.accept(Idle::new(stream, IDLE));
        let Ok(Ok(stream)) = timeout(HANDSHAKE, handshake).await else { return };

        let (stops, connection) = (stop.clone(), trace::current());
        let service = service_fn(|request| {
            let (parser, stops) = (Arc::clone(&self), stops.clone());
            async move {
                let (head, body) = request.into_parts();
                drain(body).await;
                let version = head.version;
                // A stream of HTTP/2 is a task of its own.
                let answer = parser.answer(Request::from_parts(head, ()));
                let mut response = trace::within(connection, answer).await;
                if *stops.borrow() && version < Version::HTTP_2 {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response)
            }
        });
        let builder = builder();
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = stop.wait_for(|&stop| stop) => {}
        }
        // A client may be about to ask once more: it is answered, and told that it was the last time.
        tokio::select! {
            _ = connection.as_mut() => return,
            () = sleep(ASKING) => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }

    async fn answer(&self, request: Request<()>) -> Response<Body> {
        let traceparent = request.headers().get("traceparent").and_then(|it| it.to_str().ok());
        self.layer.trace(traceparent);
        let response = match http::asked(&request) {
            Ok(path) => match timeout(OPENING, self.open(&request, path)).await {
                Ok(Some(response)) => response,
                Ok(None) | Err(_) => {
                    http::failure(StatusCode::SERVICE_UNAVAILABLE, "come again in a moment")
                }
            },
            Err(response) => *response,
        };
        http::finished(&request, response)
    }

    /// Asks the opener and makes its answer a response; `None` if there is no sensible answer.
    async fn open(&self, request: &Request<()>, path: &str) -> Option<Response<Body>> {
        let permit = Arc::clone(&self.files).acquire_owned().await.ok()?;
        let mut reply = self.ask(path).await;
        match reply.decode::<OpenReply>().ok()? {
            OpenReply::File(found) => {
                let file = OpenFile { file: reply.fds.pop()?.into(), _permit: Some(permit) };
                Some(http::file(request, &found, file))
            }
            OpenReply::Moved { to } => Some(http::moved(request, to)),
            OpenReply::NotFound => Some(http::failure(StatusCode::NOT_FOUND, "no such page")),
            OpenReply::Malformed => Some(http::failure(StatusCode::BAD_REQUEST, "a broken path")),
            OpenReply::Busy => None,
        }
    }

    /// Asks the opener until it answers: while it restarts, a question goes unanswered, and asking
    /// twice does no harm. The caller bounds the time.
    async fn ask(&self, path: &str) -> Message {
        let ask = OpenRequest { path: path.to_owned() };
        loop {
            if let Ok(message) = Message::encode(&ask)
                && let Ok(reply) = self.opener.call("open").send(message).await
            {
                return reply;
            }
            sleep(AGAIN).await;
        }
    }
}

/// Reads what a client sends though nothing here takes a body, up to a bound. An answer that comes
/// before the end of its request resets an HTTP/2 stream, and some clients then drop the answer.
async fn drain(mut body: Incoming) {
    let mut left = UNWANTED;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            left = match left.checked_sub(length) {
                Some(left) => left,
                None => return,
            };
        }
    };
    let _ = timeout(HEAD, reading).await;
}

/// The limits of one connection. HTTP/2 streams share what one connection may buffer.
fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_headers(64)
        .max_buf_size(BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(32)
        .max_header_list_size(16 << 10)
        .max_send_buf_size(BUFFER);
    builder
}
