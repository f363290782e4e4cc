//! Knows who may come in, and what is whose.
//!
//! It parses nothing that a client wrote but what postcard reads of two strings, and answers a
//! process by what it gave that process before.

use std::collections::{BTreeMap, VecDeque};
use std::hint::black_box;
use std::io::Read;
use std::os::fd::OwnedFd;

use cofferdam::Layer;
use cofferdam::ident::Instance;
use cofferdam::ipc::message::{Event, Message, Method, Replier};

use crate::Outcome;

/// Clients that wait for a session. More are sent away.
const WAITING: usize = 64;

/// What one person may keep.
const KEPT: usize = 1000;

#[derive(Default)]
struct Monitor {
    accounts: BTreeMap<String, String>,
    secrets: BTreeMap<String, BTreeMap<String, String>>,
    /// Who was let in, and has no session yet.
    clients: VecDeque<(String, OwnedFd)>,
    /// Sessions that have no client yet.
    idle: VecDeque<(Instance, Replier)>,
    /// Whose process a session is.
    sessions: BTreeMap<String, String>,
}

pub(crate) async fn monitor(layer: Layer) -> Outcome {
    let mut text = String::new();
    layer.file("accounts")?.read_to_string(&mut text)?;
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    let accounts = pairs.map(|(name, password)| (name.to_owned(), password.to_owned())).collect();
    let mut monitor = Monitor { accounts, ..Monitor::default() };
    let (login, vault) = (layer.channel("login")?, layer.channel("vault")?);
    loop {
        tokio::select! {
            () = layer.stopping() => return Ok(()),
            event = login.recv() => {
                if let Event::Request { message, reply, .. } = event? {
                    let known = monitor.login(message);
                    drop(reply.reply(Message::encode(&known)?).await);
                }
            }
            event = vault.recv() => match event? {
                Event::Request { from, method, message, reply } => {
                    monitor.asked(from, &method, message, reply).await?;
                }
                Event::PeerGone(session) | Event::PeerRestarted { old: session, .. } => {
                    monitor.gone(&session);
                }
                _ => {}
            },
        }
        monitor.pair().await?;
    }
}

impl Monitor {
    /// Whether a client is who it says; then it waits for a session.
    fn login(&mut self, mut message: Message) -> bool {
        let Ok((name, password)) = message.decode::<(String, String)>() else { return false };
        let Some(connection) = message.fds.pop() else { return false };
        // A name that isn't there takes as long as one that is.
        let wanted = self.accounts.get(&name).map_or("", String::as_str);
        let right = is_same(wanted.as_bytes(), password.as_bytes()) && !wanted.is_empty();
        let let_in = right && self.clients.len() < WAITING;
        if let_in {
            self.clients.push_back((name, connection));
        }
        let_in
    }

    async fn asked(
        &mut self,
        from: Instance,
        method: &Method,
        message: Message,
        reply: Replier,
    ) -> Outcome {
        if method.as_str() == "client" {
            self.idle.push_back((from, reply));
            return Ok(());
        }
        // By the handshake, and not by what it says.
        let Some(name) = self.sessions.get(&from.to_string()) else { return Ok(()) };
        let own = self.secrets.entry(name.clone()).or_default();
        // What makes no sense is refused by dropping it: no session ends the monitor.
        let answer = if method.as_str() == "get" {
            let Ok(key) = message.decode::<String>() else { return Ok(()) };
            Message::encode(&own.get(&key))?
        } else {
            let Ok((key, secret)) = message.decode::<(String, String)>() else { return Ok(()) };
            let fits = own.len() < KEPT || own.contains_key(&key);
            if fits {
                own.insert(key, secret);
            }
            Message::encode(&fits)?
        };
        drop(reply.reply(answer).await);
        Ok(())
    }

    /// Gives each client that waits to a session of its own.
    async fn pair(&mut self) -> Outcome {
        while !self.clients.is_empty()
            && let Some((session, reply)) = self.idle.pop_front()
        {
            let Some((name, connection)) = self.clients.pop_front() else { break };
            self.sessions.insert(session.to_string(), name);
            let message = Message { body: Vec::new(), fds: vec![connection] };
            // One that has ended meanwhile takes this client with it.
            drop(reply.reply(message).await);
        }
        Ok(())
    }

    fn gone(&mut self, session: &Instance) {
        self.sessions.remove(&session.to_string());
        self.idle.retain(|(idle, _)| idle != session);
    }
}

/// Compares all bytes, wherever they differ.
fn is_same(wanted: &[u8], said: &[u8]) -> bool {
    let differences = wanted.iter().zip(said).fold(0, |all, (a, b)| all | black_box(a ^ b));
    wanted.len() == said.len() && differences == 0
}
