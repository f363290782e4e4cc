//! A connection to another host, and the links that go through it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::frame::{Ends, Frame, MOST, MOST_UNPROVEN};
use super::route::{Out, Route};
use super::{State, WINDOW};
use crate::ident::Instance;

/// Links that have begun at the other host and not here, at most.
const PENDING: usize = 1024;

/// One connection.
pub(super) struct Line {
    number: u32,
    host: u16,
    stream: TcpStream,
    proven: Cell<bool>,
    link: Cell<u64>,
    over: Cell<bool>,
    /// What the kernel has no room for yet.
    out: RefCell<Vec<u8>>,
    /// There is something of it.
    more: Notify,
    ends: Notify,
    proof: Notify,
    /// Links, by this host's number.
    routes: RefCell<BTreeMap<u32, Rc<Route>>>,
    /// Links, by the other host's number.
    theirs: RefCell<BTreeMap<u32, Theirs>>,
    next: Cell<u32>,
}

/// What the other host calls by a number.
enum Theirs {
    /// A link that is whole.
    Whole(Rc<Route>),
    /// One whose end here is still to come, and what came for it.
    Half(Ends, Vec<Vec<u8>>, u64),
}

impl Line {
    pub fn new(number: u32, host: u16, stream: TcpStream) -> Rc<Self> {
        Rc::new(Self {
            number,
            host,
            stream,
            proven: Cell::new(false),
            link: Cell::new(0),
            over: Cell::new(false),
            out: RefCell::default(),
            more: Notify::new(),
            ends: Notify::new(),
            proof: Notify::new(),
            routes: RefCell::default(),
            theirs: RefCell::default(),
            next: Cell::new(0),
        })
    }

    pub fn number(&self) -> u32 {
        self.number
    }

    /// Whose it is said to be; see [`is_proven`](Self::is_proven).
    pub fn host(&self) -> u16 {
        self.host
    }

    pub fn is_proven(&self) -> bool {
        self.proven.get() && !self.over.get()
    }

    /// Which link between the two hosts it is.
    pub fn link(&self) -> u64 {
        self.link.get()
    }

    /// It is that host's, and this link to it.
    pub fn prove(&self, link: u64) {
        self.link.set(link);
        self.proven.set(true);
        self.proof.notify_one();
    }

    /// Waits until it is that host's; false: it has ended.
    pub async fn until_proven(&self) -> bool {
        while !self.proven.get() && !self.over.get() {
            self.proof.notified().await;
        }
        self.is_proven()
    }

    /// Ends it, and all links that go through it.
    pub fn end(&self) {
        self.fail();
        self.theirs.borrow_mut().clear();
        for route in self.routes.take().into_values() {
            route.end();
        }
    }

    /// Waits until it is ended.
    pub async fn ended(&self) {
        while !self.over.get() {
            self.ends.notified().await;
        }
    }

    fn fail(&self) {
        self.over.set(true);
        self.ends.notify_one();
        self.proof.notify_one();
    }

    /// Writes what had no room, whenever there is some.
    pub async fn write(self: Rc<Self>) {
        loop {
            while self.out.borrow().is_empty() {
                self.more.notified().await;
            }
            if self.stream.writable().await.is_err() {
                return self.fail();
            }
            let mut out = self.out.borrow_mut();
            match self.stream.try_write(&out) {
                Ok(written) => drop(out.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return self.fail(),
            }
        }
    }

    /// Joins an instance of this host to one of the other.
    pub fn join(self: &Rc<Self>, state: &Rc<State>, ends: Ends, socket: OwnedFd) {
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        // An end that can't be watched is as good as closed.
        let Ok(route) = Route::new(number, ends, socket) else { return };
        self.send(&Frame::Open(number, route.ends().clone()));
        let said = route.ends().turned();
        let mut theirs = self.theirs.borrow_mut();
        let half =
            theirs.iter_mut().find(|(_, it)| matches!(it, Theirs::Half(ends, ..) if *ends == said));
        if let Some((&number, half)) = half {
            let before = std::mem::replace(half, Theirs::Whole(Rc::clone(&route)));
            route.meet(number);
            if let Theirs::Half(_, records, _) = before {
                for record in records {
                    // It was counted as it came.
                    let _ = route.deliver(record);
                }
            }
        }
        drop(theirs);
        self.routes.borrow_mut().insert(number, Rc::clone(&route));
        let (line, state) = (Rc::clone(self), Rc::clone(state));
        tokio::task::spawn_local(async move {
            route.run(&*line).await;
            line.routes.borrow_mut().remove(&number);
            if let Some(theirs) = route.theirs() {
                line.theirs.borrow_mut().remove(&theirs);
            }
            if line.is_proven() {
                state.link_over(&line, route.ends());
            }
        });
    }

    /// An instance of the other host has ended: links to it that never began there are over.
    pub fn gone(&self, instance: &Instance) {
        for route in self.routes.borrow().values() {
            if route.ends().far == *instance && route.theirs().is_none() {
                route.end();
            }
        }
        let mut theirs = self.theirs.borrow_mut();
        theirs.retain(|_, it| !matches!(it, Theirs::Half(ends, ..) if ends.near == *instance));
    }

    /// Does what a frame says. False: it breaks the rules, and the connection is no use.
    pub fn heard(&self, frame: Frame<'_>) -> bool {
        if !self.is_proven() {
            return false;
        }
        match frame {
            Frame::Greeting(_) | Frame::Hosts(_) => false,
            Frame::Open(number, ends) => self.opened(number, ends),
            Frame::Record(number, bytes) => match self.theirs.borrow_mut().get_mut(&number) {
                Some(Theirs::Whole(route)) => route.deliver(bytes.to_vec()),
                Some(Theirs::Half(_, records, length)) => {
                    *length += bytes.len() as u64;
                    records.push(bytes.to_vec());
                    *length <= WINDOW
                }
                // The end here is gone, and the other host doesn't know yet.
                None => true,
            },
            Frame::Credit(number, bytes) => {
                if let Some(route) = self.routes.borrow().get(&number) {
                    route.credit(bytes.into());
                }
                true
            }
            Frame::Close(number) => {
                if let Some(Theirs::Whole(route)) = self.theirs.borrow_mut().remove(&number) {
                    route.finish();
                }
                true
            }
        }
    }

    /// A link begins at the other host.
    fn opened(&self, number: u32, ends: Ends) -> bool {
        let mut theirs = self.theirs.borrow_mut();
        if theirs.contains_key(&number) || theirs.len() >= PENDING {
            return false;
        }
        let said = ends.turned();
        let routes = self.routes.borrow();
        let route = routes.values().find(|it| *it.ends() == said && it.theirs().is_none());
        let it = match route {
            Some(route) => {
                route.meet(number);
                Theirs::Whole(Rc::clone(route))
            }
            None => Theirs::Half(ends, Vec::new(), 0),
        };
        theirs.insert(number, it);
        true
    }
}

impl Out for Line {
    /// Sends what is written: at once, if the kernel has room for it.
    fn send_all(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut out = self.out.borrow_mut();
        let waits = !out.is_empty();
        write(&mut out);
        if waits || self.over.get() {
            return;
        }
        // A lone frame doesn't wait for the task that writes.
        match self.stream.try_write(&out) {
            Ok(written) => drop(out.drain(..written)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return self.fail(),
        }
        if !out.is_empty() {
            self.more.notify_one();
        }
    }
}

/// Reads frames from a connection.
pub(super) struct Reader {
    line: Rc<Line>,
    buffer: Vec<u8>,
    /// What of it is filled, and what of that was given.
    filled: usize,
    given: usize,
}

impl Reader {
    pub fn new(line: Rc<Line>) -> Self {
        Self { line, buffer: vec![0; 2 * (MOST + 4)], filled: 0, given: 0 }
    }

    /// The next frame. An error: the connection has ended, or breaks the rules.
    pub async fn next(&mut self) -> io::Result<Frame<'_>> {
        let wrong = || io::Error::from(io::ErrorKind::InvalidData);
        let length = loop {
            let rest = &self.buffer[self.given..self.filled];
            if let Some((length, rest)) = rest.split_first_chunk() {
                let most = if self.line.is_proven() { MOST } else { MOST_UNPROVEN };
                let length = usize::try_from(u32::from_le_bytes(*length)).ok();
                let length = length.filter(|&it| it <= most).ok_or_else(wrong)?;
                if rest.len() >= length {
                    break length;
                }
            }
            self.fill().await?;
        };
        let begin = self.given + 4;
        self.given = begin + length;
        Frame::read(&self.buffer[begin..begin + length]).ok_or_else(wrong)
    }

    /// Reads more. What was given already makes room.
    async fn fill(&mut self) -> io::Result<()> {
        if self.given > 0 {
            self.buffer.copy_within(self.given..self.filled, 0);
            self.filled -= self.given;
            self.given = 0;
        }
        loop {
            match self.line.stream.try_read(&mut self.buffer[self.filled..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    self.filled += read;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            self.line.stream.readable().await?;
        }
    }
}
