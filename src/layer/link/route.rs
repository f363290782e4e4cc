//! One link: the inner end of a socketpair whose outer end an instance of this host has, and what is on
//! its way to and from the other host.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use super::WINDOW;
use super::frame::{Ends, Frame};
use crate::channel::datagram::{Buffer, send_record};
use crate::channel::relay::Relay;
use crate::channel::{LinkError, datagram};
use crate::sys::socket::watch;

/// Records that are sent together, at most.
const TOGETHER: usize = 32;

/// Where a link's frames go.
pub(super) trait Out {
    /// Sends what is written, in one.
    fn send_all(&self, write: impl FnOnce(&mut Vec<u8>));

    /// Sends a frame.
    fn send(&self, frame: &Frame<'_>) {
        self.send_all(|out| frame.write(out));
    }
}

/// A link.
pub(super) struct Route {
    number: u32,
    ends: Ends,
    socket: AsyncFd<Arc<OwnedFd>>,
    /// The other host's number, once it has begun there.
    theirs: Cell<Option<u32>>,
    /// What may still be sent.
    credit: Cell<u64>,
    /// There is some again.
    credited: Notify,
    /// What came and wasn't handed on.
    inward: RefCell<VecDeque<Vec<u8>>>,
    /// Bytes that came and weren't credited back.
    owed: Cell<u64>,
    /// What of them was handed on.
    handed: Cell<u64>,
    arrived: Notify,
    /// Nothing more comes from the other host.
    finished: Cell<bool>,
    over: Notify,
    is_over: Cell<bool>,
}

impl Route {
    pub fn new(number: u32, ends: Ends, socket: OwnedFd) -> io::Result<Rc<Self>> {
        Ok(Rc::new(Self {
            number,
            ends,
            socket: watch(Arc::new(socket))?,
            theirs: Cell::new(None),
            credit: Cell::new(WINDOW),
            credited: Notify::new(),
            inward: RefCell::default(),
            owed: Cell::new(0),
            handed: Cell::new(0),
            arrived: Notify::new(),
            finished: Cell::new(false),
            over: Notify::new(),
            is_over: Cell::new(false),
        }))
    }

    pub fn ends(&self) -> &Ends {
        &self.ends
    }

    /// The other host's number, if it has begun there.
    pub fn theirs(&self) -> Option<u32> {
        self.theirs.get()
    }

    /// It has begun at the other host, by that number.
    pub fn meet(&self, theirs: u32) {
        self.theirs.set(Some(theirs));
        self.arrived.notify_one();
    }

    /// A record came. False: it is more than there was room for.
    pub fn deliver(&self, record: Vec<u8>) -> bool {
        self.owed.set(self.owed.get() + record.len() as u64);
        self.inward.borrow_mut().push_back(record);
        self.arrived.notify_one();
        self.owed.get() <= WINDOW
    }

    /// More may be sent.
    pub fn credit(&self, bytes: u64) {
        // No more than the window is ever on its way, whatever the other host says.
        self.credit.set(self.credit.get().saturating_add(bytes).min(WINDOW));
        self.credited.notify_one();
    }

    /// Nothing more comes; what came is handed on.
    pub fn finish(&self) {
        self.finished.set(true);
        self.arrived.notify_one();
    }

    /// It is over.
    pub fn end(&self) {
        self.is_over.set(true);
        self.over.notify_one();
    }

    /// Carries in both directions, until one of the ends is gone.
    pub async fn run(&self, line: &impl Out) {
        tokio::select! {
            () = self.ended() => {}
            () = self.outward(line) => {}
            () = self.hand_on(line) => {}
        }
        line.send(&Frame::Close(self.number));
    }

    async fn ended(&self) {
        while !self.is_over.get() {
            self.over.notified().await;
        }
    }

    /// Takes what the instance of this host says, and sends it.
    async fn outward(&self, line: &impl Out) {
        let mut buffer = Relay::buffer();
        loop {
            while !self.may_send() {
                self.credited.notified().await;
            }
            let Ok(mut ready) = self.socket.readable().await else { return };
            let (mut took, mut failed) = (0, false);
            line.send_all(|out| {
                while took < TOGETHER && self.may_send() {
                    match self.take(&mut buffer, out) {
                        Ok(true) => took += 1,
                        Ok(false) => break,
                        Err(_) => {
                            failed = true;
                            break;
                        }
                    }
                }
            });
            if failed {
                return;
            }
            if took < TOGETHER && self.may_send() {
                ready.clear_ready();
            }
            // Others have their turn.
            if took == TOGETHER {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Whether there is credit for a record of any size.
    fn may_send(&self) -> bool {
        self.credit.get() >= datagram::LARGEST as u64
    }

    /// Takes one record; false: there is none.
    fn take(&self, buffer: &mut Buffer, out: &mut Vec<u8>) -> Result<bool, LinkError> {
        let Some(received) = buffer.receive(self.socket.get_ref(), 0)? else { return Ok(false) };
        Frame::Record(self.number, received.bytes).write(out);
        self.credit.set(self.credit.get().saturating_sub(received.bytes.len() as u64));
        Ok(true)
    }

    /// Hands on what came from the other host, and lets it send as much again.
    async fn hand_on(&self, line: &impl Out) {
        loop {
            let Some(record) = self.inward.borrow_mut().pop_front() else {
                if self.finished.get() {
                    return;
                }
                self.arrived.notified().await;
                continue;
            };
            loop {
                let Ok(mut ready) = self.socket.writable().await else { return };
                if self.hand(&record) {
                    break;
                }
                ready.clear_ready();
            }
            self.handed.set(self.handed.get() + record.len() as u64);
            if self.handed.get() >= WINDOW / 4 || self.inward.borrow().is_empty() {
                self.give_credit(line);
            }
        }
    }

    /// False: there is no room yet.
    fn hand(&self, record: &[u8]) -> bool {
        let sent = send_record(self.socket.get_ref(), record, &[]);
        sent.unwrap_or_else(|_| {
            // The instance has ended; the other direction sees it too.
            self.end();
            true
        })
    }

    /// What is small stays until it has come to something: a lone record costs no frame more.
    fn give_credit(&self, line: &impl Out) {
        let handed = self.handed.get();
        if let Some(theirs) = self.theirs.get()
            && handed >= WINDOW / 8
        {
            self.owed.set(self.owed.get().saturating_sub(handed));
            self.handed.set(0);
            let bytes = u32::try_from(handed).unwrap_or(u32::MAX);
            line.send(&Frame::Credit(theirs, bytes));
        }
    }
}
