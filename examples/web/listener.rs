//! The listener: accepts connections and passes them on, unread.

use std::error::Error;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use cofferdam::Layer;
use cofferdam::ipc::message::{Channel, Message};
use cofferdam::ipc::socket::{Connection, Stream};

/// How long to wait when descriptors or memory have run out, or when no parser is there.
const PAUSE: Duration = Duration::from_millis(20);

/// How often a connection is offered to the pool before it is closed: some 4 seconds, more than a
/// parser needs to come back.
const OFFERS: u32 = 200;

/// Connections in hand at once: accepted, and not yet taken by a parser. When the pool is full the
/// next ones wait in the kernel's queue, which is bounded. Each takes two descriptors here, and
/// two more while it travels; the policy says `files = 256`.
const IN_HAND: u32 = 32;

/// How long a stopping listener waits for parsers to take what it has in hand.
const LAST: Duration = Duration::from_secs(1);

/// The layer's function.
pub(crate) async fn listener(layer: Layer) -> Result<(), Box<dyn Error>> {
    let acceptor = layer.acceptor("https")?;
    let parsers = layer.channel("connections")?;
    let hands = Arc::new(Semaphore::new(IN_HAND as usize));
    let serve = async {
        while let Ok(hand) = Arc::clone(&hands).acquire_owned().await {
            match acceptor.accept().await {
                Ok(connection) => {
                    let parsers = parsers.clone();
                    tokio::spawn(async move {
                        pass(&parsers, &connection).await;
                        drop(hand);
                    });
                }
                Err(error) => {
                    eprintln!("accept: {error}");
                    sleep(PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = layer.stopping() => {}
        () = serve => {}
    }
    // What was accepted is still served, if there is a parser with room for it.
    let _ = timeout(LAST, hands.acquire_many(IN_HAND)).await;
    Ok(())
}

/// Passes a connection to one of the parsers. If that one ends before it has said that it took
/// the connection, another gets it: what a killed process still had before it was never served.
async fn pass(parsers: &Channel, connection: &Connection) {
    let Stream::Tcp(stream) = connection.stream() else { return };
    // Answers are written whole; waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    for _ in 0..OFFERS {
        if offer(parsers, stream).await {
            return;
        }
        sleep(PAUSE).await;
    }
    eprintln!("a connection was closed: no parser took it");
}

/// Whether a parser took it.
async fn offer(parsers: &Channel, stream: &TcpStream) -> bool {
    let Ok(socket) = stream.as_fd().try_clone_to_owned() else { return false };
    let message = Message { body: Vec::new(), fds: vec![socket] };
    parsers.call("connection").send(message).await.is_ok()
}
