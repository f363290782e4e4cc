//! Where alarms go: standard output, a program, a syslog.

use std::io::{self, Write as _};
use std::net::{ToSocketAddrs as _, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::alarm::Alarm;
use crate::cli::audit::{Failure, Format};
use crate::text::neutralise;

/// Alarms that may wait for the program; what comes beyond is counted and told.
const MOST_WAITING: usize = 1024;

/// How long the program may take for an alarm before it is killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// RFC 5424: the facility "log audit", with the severities "alert" and "notice".
const ALERT: u8 = 13 * 8 + 1;
const NOTICE: u8 = 13 * 8 + 5;

/// A syslog's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Unix(PathBuf),
    Udp(String),
}

impl Target {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(("udp", host)) if host.contains(':') => Ok(Self::Udp(host.to_owned())),
            _ => Err("write `unix:/dev/log` or `udp:HOST:PORT`".to_owned()),
        }
    }
}

enum Syslog {
    Unix(UnixDatagram),
    Udp(UdpSocket),
}

impl Syslog {
    fn connect(target: &Target) -> io::Result<Self> {
        match target {
            Target::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                Ok(Self::Unix(socket))
            }
            Target::Udp(host) => {
                let address = host.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
                let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any)?;
                socket.connect(address)?;
                Ok(Self::Udp(socket))
            }
        }
    }

    fn send(&self, alarm: &Alarm, host: &str) -> io::Result<()> {
        let priority = if alarm.is_over { NOTICE } else { ALERT };
        let (time, process, words) = (alarm.time(), std::process::id(), alarm.words());
        let line = format!("<{priority}>1 {time} {host} cofferdam {process} alarm - {words}");
        match self {
            Self::Unix(socket) => socket.send(line.as_bytes()),
            Self::Udp(socket) => socket.send(line.as_bytes()),
        }
        .map(drop)
    }
}

/// Everybody who hears.
pub(super) struct Sinks {
    format: Format,
    syslog: Option<(Syslog, String)>,
    program: Option<(SyncSender<String>, JoinHandle<()>)>,
    is_closed: bool,
    /// Alarms that the program was too slow for.
    dropped: u64,
}

impl Sinks {
    pub(super) fn open(
        format: Format,
        program: Option<PathBuf>,
        syslog: Option<&Target>,
    ) -> Result<Self, Failure> {
        let reach = |target| -> Result<_, Failure> {
            let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
            let syslog = Syslog::connect(target)
                .map_err(|error| Failure::system(format!("can't reach the syslog: {error}")))?;
            Ok((syslog, host))
        };
        let syslog = syslog.map(reach).transpose()?;
        let program = program.map(|program| {
            let (alarms, waiting) = sync_channel::<String>(MOST_WAITING);
            let thread = std::thread::spawn(move || {
                for alarm in waiting {
                    if let Err(error) = hand_over(&program, &alarm) {
                        let name = neutralise(program.display().to_string().as_bytes());
                        let _ = writeln!(anstream::stderr(), "error: {name}: {error}");
                    }
                }
            });
            (alarms, thread)
        });
        Ok(Self { format, syslog, program, is_closed: false, dropped: 0 })
    }

    /// Whether nobody reads standard output any more.
    pub(super) fn are_closed(&self) -> bool {
        self.is_closed
    }

    pub(super) fn tell(&mut self, alarm: &Alarm) {
        let json = format!("{}\n", alarm.json());
        let mut out = anstream::stdout().lock();
        let shown = match self.format {
            Format::Text => out.write_all(alarm.text().as_bytes()),
            Format::Json => out.write_all(json.as_bytes()),
        };
        self.is_closed |= shown.and_then(|()| out.flush()).is_err();
        if let Some((syslog, host)) = &self.syslog
            && let Err(error) = syslog.send(alarm, host)
        {
            let _ = writeln!(anstream::stderr(), "error: the syslog: {error}");
        }
        if let Some((alarms, _)) = &self.program
            && let Err(TrySendError::Full(_)) = alarms.try_send(json)
        {
            self.dropped += 1;
        }
    }

    /// Waits until the program has had all.
    pub(super) fn finish(&mut self) {
        if let Some((alarms, thread)) = self.program.take() {
            drop(alarms);
            let _ = thread.join();
        }
        if self.dropped > 0 {
            let _ = writeln!(
                anstream::stderr(),
                "error: {} alarms came faster than the program took them",
                self.dropped
            );
        }
    }
}

/// Runs the program for one alarm.
fn hand_over(program: &PathBuf, alarm: &str) -> io::Result<()> {
    let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that needs no more than to be started may close it.
        let _ = stdin.write_all(alarm.as_bytes());
    }
    let until = Instant::now() + PATIENCE;
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(io::Error::other(status.to_string())),
            None if Instant::now() < until => std::thread::sleep(Duration::from_millis(10)),
            None => {
                child.kill()?;
                child.wait()?;
                return Err(io::Error::other("it took more than 10 s and was killed"));
            }
        }
    }
}
