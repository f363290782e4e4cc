//! The one connection of a worker (`per = "connection"`).
//!
//! The worker accepts, says so to the supervisor, and has no listening socket any more when its code
//! gets the connection: who takes the worker over then reaches nobody else's. Where the policy bounds
//! connections of one source the supervisor answers whether this one may stay.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Weak;

use rustix::event::PollFlags;

use super::accept::{Slotted, Taken};
use super::{Acceptor, Connection, blocking};
use crate::ipc::broker::Broker;
use crate::ipc::companion::{Companion, Ends, Waiter};
use crate::wire::broker::{Answer, Ask, Refusal};
use crate::wire::control::FromLayer;

impl Acceptor {
    /// Waits for the connection of this life.
    pub(crate) async fn single(self, broker: &Broker) -> io::Result<Connection> {
        loop {
            let taken = self.next(|| self.take()).await?;
            let answer = match self.ask_for(&taken, broker)? {
                Some(ask) => Some(broker.ask(ask).await?.0),
                None => None,
            };
            if let Some((fd, slot)) = self.answered(taken, answer)? {
                return self.connection(fd, slot);
            }
        }
    }

    /// The same for a thread; `None` once the layer has been asked to finish.
    pub(crate) fn single_blocking(
        self,
        broker: &Broker,
        companion: &Weak<dyn Companion>,
    ) -> io::Result<Option<blocking::Connection>> {
        let waiter = Waiter::new(Some(companion), Ends::WithLayer)?;
        loop {
            waiter.attend()?;
            if waiter.is_stopping() {
                return Ok(None);
            }
            match self.take() {
                Ok(Some(taken)) => {
                    let asked = self.ask_for(&taken, broker)?;
                    let answer =
                        asked.map(|ask| broker.ask_blocking(ask)).transpose()?.map(|it| it.0);
                    if let Some((fd, slot)) = self.answered(taken, answer)? {
                        return blocking::Connection::new(fd, slot, self.is_tcp()).map(Some);
                    }
                }
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    waiter.sleep([(self.socket().as_fd(), PollFlags::IN)], None)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What has to be asked before a connection is served; where no answer decides, it is only said.
    fn ask_for(&self, taken: &Taken, broker: &Broker) -> io::Result<Option<Ask>> {
        let ask = Ask::Serve { source: taken.source.to_bytes() };
        if self.per_source().is_some() {
            return Ok(Some(ask));
        }
        let said = broker.post(&FromLayer::Ask { request: 0, ask })?;
        // It was the first that was said since this process became ready.
        said.then_some(None).ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// The connection, if it may stay.
    fn answered(
        &self,
        taken: Taken,
        answer: Option<Answer>,
    ) -> io::Result<Option<(OwnedFd, Slotted)>> {
        match answer {
            None | Some(Answer::Done) => Ok(self.admit(&taken, None).map(|slot| (taken.fd, slot))),
            Some(Answer::Refused(Refusal::Limit)) => {
                self.turn_away(&taken);
                Ok(None)
            }
            Some(other) => Err(io::Error::other(format!("the supervisor answers {other:?}"))),
        }
    }
}
