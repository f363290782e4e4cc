//! Who answers at the daemon's door: a layer of the framework's own, to which people say what they
//! want to know or to have done.
//!
//! It is there only while somebody asks. The supervisor lets callers in, knows who they are, and
//! tells this layer of each change of each instance; what callers say is read here, and what
//! follows of it goes to the supervisor in fixed layout. It waits for no caller.

mod board;
mod caller;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, iter};

use rustix::event::PollFlags;

use self::board::{Board, has_finished};
use self::caller::{Caller, Work};
use super::Layer;
use super::order::{Order, Orders};
use crate::handle::{Reply, Request};
use crate::ident::PolicyId;
use crate::sys::poller;
use crate::wire::control::{Command, FromLayer};
use crate::wire::life::Stage;

/// What this layer is called, as a layer and as a function. No policy may use the name.
pub(crate) const NAME: &str = "cofferdam-control";

/// How long it stays when nobody is left: who asks again soon needn't wait for its start.
const IDLE: Duration = Duration::from_secs(5);

/// Answers until nobody has asked for a while, or the supervisor says stop.
pub(super) fn run(layer: &Layer) -> io::Result<()> {
    let control = layer.0.inbox.socket();
    let board = Board::default();
    let (callers, policy) = (BTreeMap::new(), layer.policy());
    let mut desk = Desk { layer, control, board, policy, callers, idle: None };
    while desk.turn()? {}
    Ok(())
}

struct Desk<'a> {
    layer: &'a Layer,
    control: Arc<OwnedFd>,
    board: Board,
    policy: PolicyId,
    callers: BTreeMap<u32, Caller>,
    /// Since when nobody is here.
    idle: Option<Instant>,
}

impl Desk<'_> {
    /// Takes up what came, and waits for more. False: there is nobody left to answer, or no time.
    fn turn(&mut self) -> io::Result<bool> {
        let heard = self.layer.attend();
        let orders: Vec<_> = self.layer.0.orders.iter().flat_map(Orders::take).collect();
        for order in orders {
            self.obey(order);
        }
        match heard {
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => return Ok(false),
            heard => heard?,
        }
        let stops = self.layer.0.stop.is_asked();
        self.work();
        self.let_go()?;
        let now = Instant::now();
        self.idle = self.idle.or(Some(now)).filter(|_| self.callers.is_empty());
        if stops || self.idle.is_some_and(|since| now >= since + IDLE) {
            return Ok(false);
        }
        self.wait()?;
        Ok(true)
    }

    fn wait(&mut self) -> io::Result<()> {
        let callers = self.callers.values().map(|it| (it.fd(), it.interest()));
        let idle = self.idle.map(|since| since + IDLE);
        let due = self.callers.values().filter_map(Caller::deadline).chain(idle).min();
        let fds = iter::once((self.control.as_fd(), PollFlags::IN)).chain(callers);
        let ready = poller::ready(fds, due)?;
        let callers: Vec<u32> = self.callers.keys().copied().collect();
        for (caller, ready) in callers.into_iter().zip(ready.into_iter().skip(1)) {
            self.serve(caller, ready);
        }
        Ok(())
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Caller { caller, line } => drop(self.callers.insert(caller, Caller::new(line))),
            Order::Standing(standing) => self.board.put(*standing),
            Order::Policy(policy) => self.policy = policy,
            Order::Told { caller, text, last } => {
                let Some(caller) = self.callers.get_mut(&caller) else { return };
                match last {
                    Some(false) => caller.tell_last(&Reply::Failed(text)),
                    Some(true) => {
                        caller.tell(&Reply::Progress(text));
                        caller.tell_last(&Reply::Done);
                    }
                    None => caller.tell(&Reply::Progress(text)),
                }
            }
            _ => {}
        }
    }

    /// Reads of a caller, or writes to it.
    fn serve(&mut self, number: u32, ready: PollFlags) {
        let Some(caller) = self.callers.get_mut(&number) else { return };
        let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::RDHUP;
        if ready.contains(PollFlags::OUT) {
            caller.flush();
        } else if ready.contains(PollFlags::IN) {
            match caller.listen() {
                Some(Ok(request)) => self.asked(number, request),
                Some(Err(why)) => caller.tell_last(&Reply::Wrong(why)),
                None => {}
            }
        } else if ready.intersects(gone) {
            caller.hang_up();
        }
    }

    fn asked(&mut self, number: u32, request: Request) {
        let Some(caller) = self.callers.get_mut(&number) else { return };
        let stopping = self.layer.0.stop.is_asked();
        match request {
            Request::Status => {
                let status = self.board.status(self.policy, stopping);
                caller.tell_last(&Reply::Status(status));
            }
            Request::Restart { layer } => {
                let seats = self.board.seats(layer.as_deref());
                if let Some(layer) = layer.filter(|_| seats.is_empty()) {
                    let why = format!("no layer `{layer}`; there are: {}", self.board.layers());
                    return caller.tell_last(&Reply::Wrong(why));
                }
                caller.work = Work::Restart { left: seats.into(), now: None };
            }
            Request::Reload { gain } => {
                caller.work = Work::Reload;
                self.command(number, Command::Reload { gain });
            }
            Request::Upgrade { gain } => {
                caller.work = Work::Reload;
                self.command(number, Command::Upgrade { gain });
            }
            Request::Stop => {
                caller.work = Work::Stop;
                caller.tell(&Reply::Done);
                self.command(number, Command::Stop);
            }
        }
    }

    /// Takes every restart as far as it has come.
    fn work(&mut self) {
        let numbers: Vec<u32> = self.callers.keys().copied().collect();
        for number in numbers {
            while self.step(number) {}
        }
    }

    /// One step of a caller's restarts. Whether there may be another.
    fn step(&mut self, number: u32) -> bool {
        let Some(caller) = self.callers.get_mut(&number) else { return false };
        let Work::Restart { left, now } = &mut caller.work else { return false };
        let Some((seat, before)) = *now else {
            *now = begin(left, &self.board);
            match *now {
                Some((seat, _)) => self.command(number, Command::Restart(seat)),
                None => caller.tell_last(&Reply::Done),
            }
            return false;
        };
        let Some(standing) = self.board.get(seat) else { return false };
        let instance = &standing.instance;
        match standing.stage {
            Stage::Running if instance.generation > before => {
                *now = None;
                caller.tell(&Reply::Progress(format!("{instance} runs")));
                true
            }
            // One that has little to do may have done it by now, and so may a worker.
            Stage::Spare => {
                *now = None;
                caller.tell(&Reply::Progress(format!("{instance} has finished")));
                true
            }
            Stage::Down if instance.generation > before && has_finished(standing) => {
                *now = None;
                caller.tell(&Reply::Progress(format!("{instance} has finished")));
                true
            }
            Stage::Down if instance.generation > before => {
                let why = format!("{instance} has ended, and is not started again");
                caller.tell_last(&Reply::Failed(why));
                false
            }
            _ => false,
        }
    }

    /// Has the supervisor do something.
    fn command(&mut self, caller: u32, command: Command) {
        let said = self.layer.0.inbox.say(&FromLayer::Command { caller, command });
        if let (Err(error), Some(caller)) = (said, self.callers.get_mut(&caller)) {
            caller.tell_last(&Reply::Failed(format!("the supervisor can't be told: {error}")));
        }
    }

    /// Lets those go for whom all is done.
    fn let_go(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let over: Vec<u32> =
            self.callers.extract_if(.., |_, it| it.is_over(now)).map(|it| it.0).collect();
        over.into_iter()
            .try_for_each(|caller| self.layer.0.inbox.say(&FromLayer::CallerGone { caller }))
    }
}

/// The next whose turn it is, with its present life.
fn begin(left: &mut VecDeque<u32>, board: &Board) -> Option<(u32, u64)> {
    let seat = left.pop_front()?;
    Some((seat, board.get(seat).map_or(0, |it| it.instance.generation)))
}
