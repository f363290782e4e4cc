//! Connections that a helper makes: the layer asks by name, and gets a connected socket.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use tokio::net::{TcpStream, UdpSocket, UnixStream};

use super::{Stream, blocking};
use crate::ident::Name;
use crate::ipc::broker::{Answered, Broker};
use crate::mark;
use crate::policy::plan::{ConnectAddress, ConnectPlan};
use crate::wire::broker::{Answer, Ask, Refusal};

/// An address that the policy lets this layer connect to.
#[derive(Clone, Debug)]
pub struct Target {
    number: u16,
    plan: ConnectPlan,
    layer: Name,
    broker: Arc<Broker>,
}

/// Why there is no connection. Each names the line of the policy.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens there, or it was refused on purpose.
    #[error("{0}: nobody answers there: connection refused")]
    Refused(String),
    /// No way leads there.
    #[error("{0}: no way leads there: {1}")]
    Unreachable(String, io::Error),
    /// The host's name leads to no address, or couldn't be looked up.
    #[error("{0}: the name leads to no address")]
    NotResolved(String),
    /// It took longer than ten seconds.
    #[error("{0}: no answer in time")]
    Timeout(String),
    /// The policy doesn't grant it.
    #[error("{0}: the helper doesn't grant it")]
    NotGranted(String),
    /// Sixteen requests of this layer are under way.
    #[error("{0}: too many requests of this layer are under way (16)")]
    Limit(String),
    /// Our caller's mistake: a stream from an address for datagrams, or the other way round.
    #[error("{0}: {1}")]
    OtherKind(String, &'static str),
    /// A part of a Unix path is a symbolic link, by which somebody else could choose whom this
    /// layer gets to; or at the path is no socket, or one with a second name.
    #[error("{0}: {1}")]
    NotThere(String, &'static str),
    /// The system refused something else.
    #[error("{0}: {1}")]
    System(String, io::Error),
}

impl Target {
    /// The address that is number `number` among those of `layer`.
    pub const fn new(number: u16, plan: ConnectPlan, layer: Name, broker: Arc<Broker>) -> Self {
        Self { number, plan, layer, broker }
    }

    /// Connects a stream. Dropping the future gives it up. Needs the tokio runtime.
    pub async fn stream(&self) -> Result<Stream, ConnectError> {
        self.demand_stream()?;
        let fd = self.taken(self.broker.ask(self.ask()).await)?;
        let stream = match self.plan.address {
            ConnectAddress::Unix(_) => UnixStream::from_std(fd.into()).map(Stream::Unix),
            _ => TcpStream::from_std(fd.into()).map(Stream::Tcp),
        };
        stream.map_err(|error| ConnectError::System(self.line(), error))
    }

    /// Connects a socket for datagrams. Needs the tokio runtime.
    pub async fn datagram(&self) -> Result<UdpSocket, ConnectError> {
        self.demand_datagram()?;
        let fd = self.taken(self.broker.ask(self.ask()).await)?;
        UdpSocket::from_std(fd.into()).map_err(|error| ConnectError::System(self.line(), error))
    }

    /// Connects a stream, and blocks the thread until that is done.
    pub fn blocking_stream(&self) -> Result<blocking::Stream, ConnectError> {
        self.demand_stream()?;
        let fd = self.taken(self.broker.ask_blocking(self.ask()))?;
        let is_tcp = !matches!(self.plan.address, ConnectAddress::Unix(_));
        blocking::Stream::new(fd, is_tcp).map_err(|error| ConnectError::System(self.line(), error))
    }

    /// Connects a socket for datagrams, and blocks the thread until that is done.
    pub fn blocking_datagram(&self) -> Result<std::net::UdpSocket, ConnectError> {
        self.demand_datagram()?;
        let fd = self.taken(self.broker.ask_blocking(self.ask()))?;
        blocking::datagram(fd).map_err(|error| ConnectError::System(self.line(), error))
    }

    const fn ask(&self) -> Ask {
        Ask::Connect { address: self.number }
    }

    fn taken(&self, answered: io::Result<Answered>) -> Result<OwnedFd, ConnectError> {
        mark::reached("socket.connect.answered");
        let line = self.line();
        let refusal = match answered {
            Err(error) => return Err(ConnectError::System(line, error)),
            Ok((Answer::Done, Some(fd))) => return Ok(fd),
            Ok((Answer::Refused(refusal), _)) => refusal,
            Ok(_) => {
                let error = io::Error::other("an answer to another question");
                return Err(ConnectError::System(line, error));
            }
        };
        Err(match refusal {
            Refusal::NotResolved => ConnectError::NotResolved(line),
            Refusal::Timeout => ConnectError::Timeout(line),
            Refusal::Limit => ConnectError::Limit(line),
            Refusal::System(errno) => {
                let error = io::Error::from_raw_os_error(errno);
                match error.kind() {
                    _ if errno == Errno::LOOP.raw_os_error() => {
                        let why = "a part of this path is a symbolic link, and none is followed: \
                                   write the path that it leads to";
                        ConnectError::NotThere(line, why)
                    }
                    _ if errno == Errno::NOTSOCK.raw_os_error() => {
                        let why = "what is at this path is no socket with this name alone";
                        ConnectError::NotThere(line, why)
                    }
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
                        ConnectError::Refused(line)
                    }
                    io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                        ConnectError::Unreachable(line, error)
                    }
                    io::ErrorKind::TimedOut => ConnectError::Timeout(line),
                    _ => ConnectError::System(line, error),
                }
            }
            _ => ConnectError::NotGranted(line),
        })
    }

    fn demand_stream(&self) -> Result<(), ConnectError> {
        match self.plan.address {
            ConnectAddress::Udp { .. } => {
                let why = "it is for datagrams: take `connect_datagram`";
                Err(ConnectError::OtherKind(self.line(), why))
            }
            _ => Ok(()),
        }
    }

    fn demand_datagram(&self) -> Result<(), ConnectError> {
        match self.plan.address {
            ConnectAddress::Udp { .. } => Ok(()),
            _ => Err(ConnectError::OtherKind(self.line(), "it is for streams: take `connect`")),
        }
    }

    /// The policy's line.
    fn line(&self) -> String {
        let (layer, name, address) = (&self.layer, &self.plan.name, &self.plan.address);
        format!("`[layer.{layer}] connect = {{ {name} = \"{address}\" }}`")
    }
}
