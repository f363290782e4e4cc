//! Connections by TCP: this host calls others, and is called by others.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::State;
use super::frame::{Frame, MOST_UNPROVEN};
use super::line::{Line, Reader};
use super::route::Out as _;
use crate::layer::hosts::FromLink;

/// How long a caller may take to say who it is.
const GREETING: Duration = Duration::from_secs(5);

/// Callers at once that haven't said it.
const CALLERS: usize = 32;

/// The first wait before a host is called again, and the longest.
const AGAIN: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(3);

/// Calls a host, again and again: whenever there is no connection to it.
pub(super) async fn call(state: Rc<State>, host: u16, address: SocketAddr) {
    let mut wait = AGAIN;
    loop {
        let called = timeout(GREETING, TcpStream::connect(address)).await;
        if let Ok(Ok(stream)) = called
            && stream.set_nodelay(true).is_ok()
        {
            let line = state.begin(stream, host, true);
            let State { orders, .. } = &*state;
            let names = [orders.daemon.as_str(), orders.name(orders.here), orders.name(host)];
            line.send(&Frame::Greeting(names));
            let reader = Reader::new(Rc::clone(&line));
            hear(&state, &line, reader).await;
            wait = if line.is_proven() { AGAIN } else { wait };
        }
        sleep(wait).await;
        wait = (wait * 2).min(LONGEST);
    }
}

/// Takes in who calls.
pub(super) async fn answer(state: Rc<State>, door: OwnedFd) {
    let listener = std::net::TcpListener::from(door);
    let listener = listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
    let Ok(listener) = listener else { return };
    let mut greetings: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptor is free, for instance.
            sleep(AGAIN).await;
            continue;
        };
        greetings.retain(|it| !it.is_finished());
        // A host says at once who it is, so whoever has waited longest is no loss.
        if greetings.len() >= CALLERS
            && let Some(oldest) = greetings.pop_front()
        {
            oldest.abort();
        }
        let state = Rc::clone(&state);
        let greeting = tokio::task::spawn_local(async move {
            if let Ok(Ok((line, reader))) = timeout(GREETING, greeted(&state, stream)).await {
                tokio::task::spawn_local(async move { hear(&state, &line, reader).await });
            }
        });
        greetings.push_back(greeting.abort_handle());
    }
}

/// Waits until a caller has said who it is, and whom it wants.
async fn greeted(state: &Rc<State>, mut stream: TcpStream) -> io::Result<(Rc<Line>, Reader)> {
    let wrong = || io::Error::from(io::ErrorKind::InvalidData);
    stream.set_nodelay(true)?;
    let length = stream.read_u32_le().await?;
    let length = usize::try_from(length).ok().filter(|&it| it <= MOST_UNPROVEN);
    let mut bytes = vec![0; length.ok_or_else(wrong)?];
    stream.read_exact(&mut bytes).await?;
    let Some(Frame::Greeting([daemon, from, to])) = Frame::read(&bytes) else {
        return Err(wrong());
    };
    let host = state.orders.hosts.iter().position(|host| host.name.as_str() == from);
    let host = host.and_then(|host| u16::try_from(host).ok()).ok_or_else(wrong)?;
    if daemon != state.orders.daemon.as_str() || to != state.orders.name(state.orders.here) {
        return Err(wrong());
    }
    let line = state.begin(stream, host, false);
    Ok((Rc::clone(&line), Reader::new(line)))
}

/// Does what comes on a connection, until it ends.
async fn hear(state: &Rc<State>, line: &Rc<Line>, mut reader: Reader) {
    let writing = tokio::task::spawn_local(Rc::clone(line).write());
    loop {
        let heard = tokio::select! {
            () = line.ended() => break,
            heard = reader.next() => heard,
        };
        let went_on = match heard {
            Ok(Frame::Hosts(bytes)) => {
                let words = FromLink::Heard { line: line.number(), bytes: bytes.to_vec() };
                state.tell_hosts(&words)
            }
            // The other host may know sooner than this one.
            Ok(frame) => line.until_proven().await && line.heard(frame),
            Err(_) => false,
        };
        if !went_on {
            break;
        }
    }
    state.over(line);
    writing.abort();
}
