//! A running daemon, from outside: how it is, and what it is told to do.
//!
//! A daemon is found by its name in the registry, and asked over the socket there, to which only root and the
//! daemon's own user may connect. `cofferdam status`, `restart` and `stop` are this, and a program
//! that looks after daemons has it as [`Handle`].

pub(crate) mod numbers;
mod status;
mod usage;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use self::status::{InstanceStatus, State, Status, Usage};
pub(crate) use self::status::{MAX_REQUEST, Reply, Request};
use crate::registry::{Registry, Running};
pub use crate::wire::life::Load;

/// How long an answer may take that needs nothing to be done, in milliseconds on any machine.
const ANSWER: Duration = Duration::from_secs(20);

/// The longest line of an answer: a status of some thousand instances.
const MAX_REPLY: u64 = 16 << 20;

/// How often a request is made that nobody heard.
const TRIES: usize = 3;

/// How often it is looked whether a daemon has ended that was asked to.
const LOOK: Duration = Duration::from_millis(10);

/// A running daemon.
///
/// ```no_run
/// # fn main() -> Result<(), cofferdam::HandleError> {
/// let web = cofferdam::Handle::find(Some("web"))?;
/// for instance in web.status()?.instances {
///     println!("{} {}", instance.layer, instance.state.word());
/// }
/// web.restart(Some("parser"), |line| println!("{line}"))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Handle {
    registry: Registry,
    running: Running,
}

/// Why a daemon isn't asked, or doesn't do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// No daemon of this user runs, or none can be found.
    #[error("{0}")]
    NoneRuns(String),
    /// Our caller's mistake: no daemon, or no layer, of that name, or several without one.
    #[error("{0}")]
    Wrong(String),
    /// It couldn't do what was asked.
    #[error("{0}")]
    Failed(String),
    /// It can't be asked.
    #[error("asking {name}: {error}")]
    System {
        /// The daemon's name.
        name: String,
        /// What the system said.
        error: io::Error,
    },
}

impl Handle {
    /// The daemon of that name that the calling user runs, or the only one.
    ///
    /// Daemons of root are found by root, those of another user by that one.
    ///
    /// # Errors
    /// [`HandleError::NoneRuns`] if no daemon runs, [`HandleError::Wrong`] if none has that name, or
    /// several run and `name` is `None`.
    pub fn find(name: Option<&str>) -> Result<Self, HandleError> {
        let registry = Registry::of_user().ok_or_else(|| {
            let text = "there is no runtime directory ($XDG_RUNTIME_DIR) to look for daemons in";
            HandleError::NoneRuns(text.into())
        })?;
        let running = choose(&registry, name)?;
        Ok(Self { registry, running })
    }

    /// What the registry says of it.
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// How it is.
    ///
    /// # Errors
    /// [`HandleError::System`] if it can't be asked, or has ended meanwhile.
    pub fn status(&self) -> Result<Status, HandleError> {
        let mut status = None;
        self.ask(&Request::Status, Some(ANSWER), |reply| match reply {
            Reply::Status(it) => {
                status = Some(it);
                Ok(())
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        })?;
        let mut status = status.ok_or_else(|| self.system(io::ErrorKind::UnexpectedEof.into()))?;
        let Running { name, pid, policy, audit, started } = self.running.clone();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        for instance in &mut status.instances {
            instance.usage = instance.pid.and_then(|it| usage::of(it, pid));
        }
        Ok(Status { name, pid, file: policy, audit, uptime: now.saturating_sub(started), ..status })
    }

    /// Ends a layer in order and begins it anew, one copy after the other; without a name every
    /// layer of the policy. A layer that is down begins. `progress` is told of each copy, in words.
    ///
    /// # Errors
    /// [`HandleError::Wrong`] for a layer that it doesn't have, [`HandleError::Failed`] if the new
    /// life ends before it is confined.
    pub fn restart(
        &self,
        layer: Option<&str>,
        mut progress: impl FnMut(&str),
    ) -> Result<(), HandleError> {
        let request = Request::Restart { layer: layer.map(str::to_owned) };
        // As long as the policy's `grace` and the layers' own start take.
        self.ask(&request, None, |reply| match reply {
            Reply::Progress(text) => {
                progress(&text);
                Ok(())
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        })
    }

    /// Has it read its policy anew and changes what the policy changes, and waits until that runs.
    /// What it doesn't change goes on. `progress` is told of the difference in authority; with
    /// `gain` false, a policy that grants more is refused.
    ///
    /// # Errors
    /// [`HandleError::Failed`] if the policy has mistakes, grants more, or takes a restart of the daemon:
    /// then nothing has changed.
    pub fn reload(&self, gain: bool, progress: impl FnMut(&str)) -> Result<(), HandleError> {
        self.change(&Request::Reload { gain }, progress)
    }

    /// Has the program that is at its path now take its place, in the same process, and read its policy
    /// anew; waits until every layer runs the new program. What it listens on, and what waits in queues
    /// and regions, stays. `progress` and `gain` are those of [`Handle::reload`].
    ///
    /// # Errors
    /// [`HandleError::Failed`] if the new program can't take over, or if the policy is one that a reload
    /// refuses: then nothing has changed.
    pub fn upgrade(&self, gain: bool, progress: impl FnMut(&str)) -> Result<(), HandleError> {
        self.change(&Request::Upgrade { gain }, progress)
    }

    fn change(&self, request: &Request, mut progress: impl FnMut(&str)) -> Result<(), HandleError> {
        self.ask(request, None, |reply| match reply {
            Reply::Progress(text) => {
                progress(&text);
                Ok(())
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        })
    }

    /// Stops it in order, and waits until it has ended.
    ///
    /// # Errors
    /// [`HandleError::System`] if it can't be asked.
    pub fn stop(&self) -> Result<(), HandleError> {
        let is_other = |_| Err(io::ErrorKind::InvalidData.into());
        self.ask(&Request::Stop, Some(ANSWER), is_other)?;
        let is_it = |it: &Running| it.name == self.running.name && it.pid == self.running.pid;
        while self.registry.running().iter().any(is_it) {
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Asks for something and gives what is answered to `take`, up to the last line.
    fn ask(
        &self,
        request: &Request,
        time: Option<Duration>,
        mut take: impl FnMut(Reply) -> io::Result<()>,
    ) -> Result<(), HandleError> {
        let asked = || -> io::Result<(BufReader<UnixStream>, Reply)> {
            let mut line = UnixStream::connect(self.registry.door(&self.running.name))?;
            line.set_read_timeout(time)?;
            line.write_all(&[serde_json::to_vec(request)?, vec![b'\n']].concat())?;
            let mut line = BufReader::new(line);
            let first = next(&mut line)?;
            Ok((line, first))
        };
        let mut first = asked();
        for _ in 1..TRIES {
            if !first.as_ref().is_err_and(|error| is_unheard(error, request)) {
                break;
            }
            first = asked();
        }
        let (mut line, mut reply) = first.map_err(|error| self.system(error))?;
        loop {
            let taken = match reply {
                Reply::Done => return Ok(()),
                Reply::Wrong(why) => return Err(HandleError::Wrong(why)),
                Reply::Failed(why) => return Err(HandleError::Failed(why)),
                reply @ Reply::Status(_) => return take(reply).map_err(|error| self.system(error)),
                reply @ Reply::Progress(_) => take(reply),
            };
            taken.map_err(|error| self.system(error))?;
            reply = next(&mut line).map_err(|error| self.system(error))?;
        }
    }

    fn system(&self, error: io::Error) -> HandleError {
        HandleError::System { name: self.running.name.clone(), error }
    }
}

/// The next line.
fn next(line: &mut BufReader<UnixStream>) -> io::Result<Reply> {
    let mut text = Vec::new();
    line.by_ref().take(MAX_REPLY).read_until(b'\n', &mut text)?;
    if text.last() == Some(&b'\n') {
        return Ok(serde_json::from_slice(&text)?);
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended before it had answered"))
}

/// Whether a request may be made once more: who answers is there only while somebody asks, and may be
/// about to end just then. It has read nothing, or the request changes nothing.
fn is_unheard(error: &io::Error, request: &Request) -> bool {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => true,
        io::ErrorKind::UnexpectedEof => matches!(request, Request::Status),
        _ => false,
    }
}

/// The daemon of that name, or the only one.
fn choose(registry: &Registry, name: Option<&str>) -> Result<Running, HandleError> {
    let mut running = registry.running();
    let names: Vec<_> = running.iter().map(|it| it.name.as_str()).collect();
    let names = names.join(", ");
    let place = match (name, running.len()) {
        (_, 0) => return Err(HandleError::NoneRuns("no daemon of this user runs".into())),
        (None, 1) => Some(0),
        (None, _) => {
            let text = format!("several daemons run, name one of them: {names}");
            return Err(HandleError::Wrong(text));
        }
        (Some(name), _) => running.iter().position(|it| it.name == name),
    };
    if let Some(place) = place {
        return Ok(running.swap_remove(place));
    }
    let name = name.unwrap_or_default();
    Err(HandleError::Wrong(format!("no daemon `{name}` runs; these do: {names}")))
}
