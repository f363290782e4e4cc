//! The listener: accepts connections and passes them on, unread.

use std::error::Error;
use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

use cofferdam::Layer;
use cofferdam::ipc::message::{Channel, Message};

/// How long to wait when descriptors or memory have run out, or when no parser is there.
const PAUSE: Duration = Duration::from_millis(20);

/// How often a connection is offered to the pool before it is closed: some 4 seconds, more than a
/// parser needs to come back.
const OFFERS: u32 = 200;

/// The layer's function.
///
/// It has one connection in hand at a time: when the pool is full, the next ones wait in the
/// kernel's queue, which is bounded.
pub(crate) async fn listener(layer: Layer) -> Result<(), Box<dyn Error>> {
    let listener = layer.listener("https")?;
    let parsers = layer.channel("connections")?;
    let serve = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => pass(&parsers, &stream).await,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    eprintln!("accept: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = layer.stopping() => Ok(()),
        () = serve => Ok(()),
    }
}

/// Passes a connection to one of the parsers. If that one ends before it has got the connection,
/// another gets it.
async fn pass(parsers: &Channel, stream: &TcpStream) {
    // Answers are written whole; waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    for _ in 0..OFFERS {
        match offer(parsers, stream).await {
            Ok(()) => return,
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
    eprintln!("a connection was closed: no parser took it");
}

async fn offer(parsers: &Channel, stream: &TcpStream) -> Result<(), Box<dyn Error>> {
    let socket = std::os::fd::AsFd::as_fd(stream).try_clone_to_owned()?;
    parsers.send("connection", Message { body: Vec::new(), fds: vec![socket] }).await?;
    Ok(())
}
