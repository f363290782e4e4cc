//! Finding the service manager that wants to hear of this daemon (`sd_notify(3)`).

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::supervisor::ServiceManager;

/// The one that `NOTIFY_SOCKET` names, a path or with `@` an abstract name; and how often it must
/// hear of a daemon that lives, by `WATCHDOG_USEC`, unless that is meant for another process
/// (`sd_watchdog_enabled(3)`).
///
/// # Errors
/// It can't be reached: then it would take a daemon that runs for one that never did.
pub(super) fn find() -> io::Result<Option<ServiceManager>> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let own = u64::from(std::process::id());
    let is_meant = number("WATCHDOG_PID").is_none_or(|pid| pid == own);
    let watchdog = number("WATCHDOG_USEC").filter(|&time| is_meant && time > 0);
    Ok(Some(ServiceManager {
        socket: socket.into(),
        watchdog: watchdog.map(Duration::from_micros),
    }))
}
