//! One connection of a layer, from its first byte to its end.
//!
//! It carries one tunnel, or one request and its answer: what comes behind a request would be for
//! another host perhaps.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, sink, split,
};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::credential::Credential;
use super::head::{self, Asked, Malformed, Request};
use super::host::Host;
use super::notes::{Asker, Notes};
use super::reach::{Failure, PATIENCE, reach};
use super::relay::{self, Clock};
use super::rules::{Denied, Rules, Target, Way};
use super::{body, socks};

/// How long it may take to say what is wanted.
const PATIENCE_FOR_HEAD: Duration = Duration::from_secs(30);

/// How long it may take to hear the last of who has done wrong, or of who has heard enough.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What a layer sends to the proxy, read ahead.
type Near = BufReader<TcpStream>;

/// What serves a layer.
pub(super) struct Serving {
    pub asker: Asker,
    pub rules: Rc<Rules>,
    pub credentials: Rc<Vec<Result<Credential, String>>>,
    pub notes: Rc<Notes>,
}

/// What a layer wants.
enum Wanted {
    Tunnel(Host, u16),
    Request(Request, Host, u16),
    /// It can't be read.
    Nothing(Failure),
}

impl Serving {
    /// Serves a connection until it ends. Errors are of its ends, and nobody else's business.
    pub async fn serve(&self, near: TcpStream) -> io::Result<()> {
        let mut near = BufReader::with_capacity(4 << 10, near);
        let begun = timeout(PATIENCE_FOR_HEAD, self.begin(&mut near));
        match begun.await.map_err(io::Error::from)?? {
            Some((Wanted::Tunnel(host, port), is_socks)) => {
                self.tunnel(near, host, port, is_socks).await
            }
            Some((Wanted::Request(request, host, port), _)) => {
                self.request(near, &request, host, port).await
            }
            Some((Wanted::Nothing(why), _)) => {
                self.notes.failed(&self.asker, None, None, &why).await;
                refuse(&mut near, &why).await
            }
            None => Ok(()),
        }
    }

    /// Reads what is wanted, and whether by SOCKS; `None`: that was answered already.
    async fn begin(&self, near: &mut Near) -> io::Result<Option<(Wanted, bool)>> {
        match near.fill_buf().await?.first() {
            None => Ok(None),
            Some(&socks::VERSION) => {
                near.consume(1);
                let asked = socks::asked(near).await?;
                if asked.is_none() {
                    let why = Failure::Malformed("no request of SOCKS");
                    self.notes.failed(&self.asker, None, None, &why).await;
                }
                Ok(asked.map(|(host, port)| (Wanted::Tunnel(host, port), true)))
            }
            Some(_) => {
                let wanted = match read_head(near).await?.and_then(|head| head::parse(&head)) {
                    Ok((Asked::Tunnel, host, port)) => Wanted::Tunnel(host, port),
                    Ok((Asked::Request(it), host, port)) => Wanted::Request(it, host, port),
                    Err(Malformed(why)) => Wanted::Nothing(Failure::Malformed(why)),
                };
                Ok(Some((wanted, false)))
            }
        }
    }

    /// Decides, and connects.
    async fn far(&self, host: Host, port: u16, way: Way) -> Result<(TcpStream, Target), Failure> {
        let target = match self.rules.decide(host.clone(), port, way) {
            Ok(target) => target,
            Err(denied) => {
                let why = Failure::Denied(denied);
                self.notes.failed(&self.asker, None, Some((&host, port)), &why).await;
                return Err(why);
            }
        };
        match reach(&self.rules, &target).await {
            Ok((far, at)) => {
                self.notes.reached(&self.asker, &target, at).await;
                Ok((far, target))
            }
            Err(why) => {
                let wanted = Some((&target.host, target.port));
                self.notes.failed(&self.asker, Some(target.rule), wanted, &why).await;
                Err(why)
            }
        }
    }

    async fn tunnel(
        &self,
        mut near: Near,
        host: Host,
        port: u16,
        is_socks: bool,
    ) -> io::Result<()> {
        match (self.far(host, port, Way::Tunnel).await, is_socks) {
            (Ok((far, _)), _) => {
                if is_socks {
                    socks::reply(&mut near, socks::Reply::Connected).await?;
                } else {
                    near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
                }
                relay::both(split(near), split(far)).await;
                Ok(())
            }
            (Err(why), false) => refuse(&mut near, &why).await,
            (Err(why), true) => {
                let reply = match why {
                    Failure::Denied(_) => socks::Reply::NotAllowed,
                    Failure::NotResolved | Failure::TimedOut => socks::Reply::Unreachable,
                    Failure::System(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        socks::Reply::Refused
                    }
                    _ => socks::Reply::Failed,
                };
                socks::reply(&mut near, reply).await
            }
        }
    }

    async fn request(
        &self,
        mut near: Near,
        request: &Request,
        host: Host,
        port: u16,
    ) -> io::Result<()> {
        let (far, target) = match self.far(host, port, Way::Request).await {
            Ok(reached) => reached,
            Err(why) => return refuse(&mut near, &why).await,
        };
        let Some(number) = target.credential else {
            return exchange(near, far, request, None).await;
        };
        let protected = match self.credentials.get(number) {
            // Who sees what the server gets would see the credential.
            _ if request.is_echo() => {
                Err(Failure::Malformed("TRACE would give the credential away"))
            }
            Some(Ok(credential)) => {
                let shaken = timeout(PATIENCE, credential.protect(&target.host, far)).await;
                shaken.unwrap_or(Err(Failure::TimedOut)).map(|far| (far, credential))
            }
            Some(Err(why)) => Err(Failure::Unsafe(why.clone())),
            None => Err(Failure::Denied(Denied::Unlisted)),
        };
        match protected {
            Ok((far, credential)) => exchange(near, far, request, Some(credential)).await,
            Err(why) => {
                let wanted = Some((&target.host, target.port));
                self.notes.failed(&self.asker, Some(target.rule), wanted, &why).await;
                refuse(&mut near, &why).await
            }
        }
    }
}

/// Sends a request on, and its answer back.
async fn exchange(
    near: Near,
    far: impl AsyncRead + AsyncWrite,
    request: &Request,
    credential: Option<&Credential>,
) -> io::Result<()> {
    let (near_in, near_out) = split(near);
    let (far_in, mut far_out) = split(far);
    let clock = Clock::default();
    let send = async {
        let credential = credential.map(|it| (it.header.as_str(), &it.value[..]));
        far_out.write_all(&request.write(credential)).await?;
        let mut near_in = BufReader::with_capacity(1, near_in);
        body::copy(&mut near_in, &mut far_out, request.body, &clock).await?;
        // Whatever follows goes nowhere. It is read so that the layer's end is noticed.
        relay::pump(near_in, sink(), &clock).await
    };
    let there = async {
        match send.await {
            // The end of what it says isn't the end of what it hears.
            Ok(()) => std::future::pending().await,
            // A server may have answered before it stopped reading.
            Err(error) => {
                tokio::time::sleep(LAST_WORDS).await;
                Err(error)
            }
        }
    };
    tokio::select! {
        done = there => done,
        done = relay::pump(far_in, near_out, &clock) => done,
        () = clock.silence() => Ok(()),
    }
}

/// Reads a head up to the empty line, which is not part of it.
async fn read_head(near: &mut Near) -> io::Result<Result<Vec<u8>, Malformed>> {
    let mut head = Vec::new();
    loop {
        let left = (head::MOST - head.len()) as u64;
        let read = (&mut *near).take(left).read_until(b'\n', &mut head).await?;
        if read == 0 && left > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !head.ends_with(b"\r\n") {
            let too_long = "the head is too long, or a line doesn't end with CR and LF";
            return Ok(Err(Malformed(too_long)));
        }
        if read == 2 {
            head.truncate(head.len().saturating_sub(4));
            return Ok(Ok(head));
        }
    }
}

/// Says by HTTP why nothing comes of it, and ends.
async fn refuse(near: &mut Near, why: &Failure) -> io::Result<()> {
    let status = match why {
        Failure::Denied(_) => "403 Forbidden",
        Failure::Malformed(_) => "400 Bad Request",
        Failure::TimedOut => "504 Gateway Timeout",
        Failure::NotResolved | Failure::System(_) | Failure::Unsafe(_) => "502 Bad Gateway",
    };
    let text = format!("{}: {why}\n", super::NAME);
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        text.len()
    );
    near.write_all((head + &text).as_bytes()).await?;
    near.shutdown().await?;
    // Who still sends would otherwise be reset before it has read this.
    let clock = Clock::default();
    let rest = relay::pump(near, sink(), &clock);
    timeout(LAST_WORDS, rest).await.unwrap_or(Ok(()))
}
