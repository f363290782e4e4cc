//! A layer's sockets.

use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError, Weak};

use tokio::net::{TcpListener, UdpSocket, UnixListener};

use super::super::{Layer, LayerError, Shared, system};
use crate::ipc::message::Companion;
use crate::ipc::socket::{Acceptor, ConnectError, Connection, Stream, Target, blocking};
use crate::policy::plan::{Audit, ConnectAddress, ListenAddress, ListenPlan};
use crate::report::Facility;
use crate::wire::control::Service;

/// Why a layer has no connection.
#[derive(Debug, thiserror::Error)]
pub enum LayerConnectError {
    /// The policy knows no such address.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// It can't be connected to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

impl Layer {
    /// The TCP listener `name`, which the supervisor has bound, without limits: one whose policy
    /// says `rate` or `per-source` is an [`Layer::acceptor`]. Needs the tokio runtime.
    pub fn listener(&self, name: &str) -> Result<TcpListener, LayerError> {
        let fd =
            self.unlimited(name, "a TCP listener", |it| matches!(it, ListenAddress::Tcp(_)))?;
        TcpListener::from_std(fd.into()).map_err(|error| system("listener", name, error))
    }

    /// The listener `name` on a Unix path, without limits; as [`Layer::listener`].
    pub fn unix_listener(&self, name: &str) -> Result<UnixListener, LayerError> {
        let is_unix = |it: &ListenAddress| matches!(it, ListenAddress::Unix(_));
        let fd = self.unlimited(name, "a Unix listener", is_unix)?;
        UnixListener::from_std(fd.into()).map_err(|error| system("listener", name, error))
    }

    /// The UDP socket `name`, which the supervisor has bound. Needs the tokio runtime.
    pub fn udp(&self, name: &str) -> Result<UdpSocket, LayerError> {
        let fd = self.unlimited(name, "a UDP socket", |it| matches!(it, ListenAddress::Udp(_)))?;
        UdpSocket::from_std(fd.into()).map_err(|error| system("listener", name, error))
    }

    /// What accepts on the TCP or Unix listener `name`, within the policy's limits. Ask once and
    /// clone it: each acceptor counts for itself.
    pub fn acceptor(&self, name: &str) -> Result<Acceptor, LayerError> {
        let plan = self.listen_plan(name)?;
        if let ListenAddress::Udp(_) = plan.address {
            return Err(self.other_kind(name, plan, "a listener on streams"));
        }
        let number = self.listen_number(name);
        let tap = self.0.desk.tap(Facility::Listen, number, Audit::Digest);
        let acceptor = Acceptor::new(plan.clone(), self.listening(name)?, tap);
        Ok(acceptor.measured(self.0.gauge.as_ref()))
    }

    /// The same for a layer without the async runtime.
    pub fn blocking_acceptor(&self, name: &str) -> Result<blocking::Acceptor, LayerError> {
        let companion: Weak<Shared> = Arc::downgrade(&self.0);
        Ok(self.acceptor(name)?.blocking(companion as Weak<dyn Companion>))
    }

    /// The connection that this life is for, where the policy says `per = "connection"`: waits until
    /// there is one. `None`: the layer was asked to finish before. The function serves it and
    /// returns; the next connection gets a process of its own. Dropping the future may lose one that
    /// has come.
    ///
    /// When it returns, this process has let go of the listening socket: there is one connection to
    /// a life. Needs the tokio runtime.
    pub async fn connection(&self) -> Result<Option<Connection>, LayerError> {
        let acceptor = self.only_acceptor()?;
        let connection = self.until_stopping(acceptor.single(&self.0.broker)).await.transpose();
        connection.map_err(|error| system("connection", "of this life", error))
    }

    /// The same for a layer without the async runtime.
    pub fn blocking_connection(&self) -> Result<Option<blocking::Connection>, LayerError> {
        let acceptor = self.only_acceptor()?;
        let companion: Weak<Shared> = Arc::downgrade(&self.0);
        let companion = companion as Weak<dyn Companion>;
        let connection = acceptor.single_blocking(&self.0.broker, &companion);
        connection.map_err(|error| system("connection", "of this life", error))
    }

    /// What accepts the one connection of this life. There is one at a time, and one only.
    fn only_acceptor(&self) -> Result<Acceptor, LayerError> {
        let plan = self.0.share.listen.first().filter(|_| self.0.is_worker);
        let Some(plan) = plan.cloned() else {
            let line = format!("[layer.{}] per = \"connection\"", self.0.instance.layer);
            return Err(self.not_granted("connection", "of each life", line));
        };
        let taken = self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner).pop_first();
        let Some((_, socket)) = taken else {
            return Err(
                self.misused(plan.name.as_str(), "this life has had its connection".to_owned())
            );
        };
        let tap = self.0.desk.tap(Facility::Listen, 0, Audit::Digest);
        let held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(Acceptor::new(plan, socket, tap).beginning_with(held))
    }

    /// The listening socket `name` of any kind, non-blocking; the limits of its policy are its
    /// user's business.
    pub fn listener_fd(&self, name: &str) -> Result<OwnedFd, LayerError> {
        let address = self.listen_plan(name)?.address.to_string();
        let socket = self.listening(name)?;
        let place = (Facility::Listen, self.listen_number(name));
        self.0.report_first(place, Audit::Digest, 0, address.as_bytes());
        Ok(socket)
    }

    fn listening(&self, name: &str) -> Result<OwnedFd, LayerError> {
        self.duplicate(&self.0.listeners, "listener", name, String::new)
    }

    /// The place of a listening socket among this layer's, which is its number in the audit log.
    fn listen_number(&self, name: &str) -> u16 {
        let place = self.0.share.listen.iter().position(|plan| plan.name == *name);
        place.and_then(|place| u16::try_from(place).ok()).unwrap_or(u16::MAX)
    }

    /// Connects to the TCP or Unix address `name` of the policy, from outside of this layer.
    pub async fn connect(&self, name: &str) -> Result<Stream, LayerConnectError> {
        Ok(self.target(name)?.stream().await?)
    }

    /// Connects to the UDP address `name` of the policy.
    pub async fn connect_datagram(&self, name: &str) -> Result<UdpSocket, LayerConnectError> {
        Ok(self.target(name)?.datagram().await?)
    }

    /// The address `name` of the policy, to be connected to by a task or by a thread.
    pub fn target(&self, name: &str) -> Result<Target, LayerError> {
        let targets = &self.0.share.connect;
        let found = self.granted(
            "address",
            targets,
            |plan| &plan.name,
            name,
            |layer| format!("[layer.{layer}] connect = {{ {name} = \"tcp:HOST:PORT\" }}"),
        )?;
        let layer = self.0.instance.layer.clone();
        let service = match found.plan.address {
            ConnectAddress::Unix(_) => Service::Paths,
            ConnectAddress::Tcp { .. } | ConnectAddress::Udp { .. } => Service::Network,
            // None of a `run` layer.
            ConnectAddress::Wild { .. } => Service::Proxy,
        };
        Ok(Target::new(found.number, found.plan.clone(), layer, self.0.service(service)?))
    }

    fn listen_plan(&self, name: &str) -> Result<&ListenPlan, LayerError> {
        let found = self.0.share.listen.iter().find(|plan| plan.name == *name);
        if let Some(plan) = found.filter(|_| self.0.is_worker) {
            let why = "each life serves one connection, by `Layer::connection`".to_owned();
            return Err(self.misused(plan.name.as_str(), why));
        }
        found.ok_or_else(|| {
            let layer = &self.0.instance.layer;
            let line = format!("[layer.{layer}] listen = {{ {name} = \"tcp:ADDRESS:PORT\" }}");
            self.not_granted("listener", name, line)
        })
    }

    fn unlimited(
        &self,
        name: &str,
        what: &str,
        is_it: impl Fn(&ListenAddress) -> bool,
    ) -> Result<OwnedFd, LayerError> {
        let plan = self.listen_plan(name)?;
        if !is_it(&plan.address) {
            return Err(self.other_kind(name, plan, what));
        }
        if plan.rate.is_some() || plan.per_source.is_some() {
            let why = "it has limits, which `Layer::acceptor` keeps".to_owned();
            return Err(self.misused(name, why));
        }
        if self.0.gauge.is_some() && !matches!(plan.address, ListenAddress::Udp(_)) {
            let why = "how many copies there are is a matter of its connections, which \
                       `Layer::acceptor` counts"
                .to_owned();
            return Err(self.misused(name, why));
        }
        self.listener_fd(name)
    }

    fn other_kind(&self, name: &str, plan: &ListenPlan, wanted: &str) -> LayerError {
        self.misused(name, format!("it is \"{}\", and no {}", plan.address, &wanted[2..]))
    }

    fn misused(&self, name: &str, why: String) -> LayerError {
        let layer = &self.0.instance.layer;
        LayerError::Misused { line: format!("[layer.{layer}] listen.{name}"), why }
    }
}
