//! Taking the descriptors that a service manager has passed (`sd_listen_fds(3)`), before they can
//! get to anybody else. What they are, another process finds out.

use crate::prepare::{InheritedError, MOST_PASSED, Passed};
use crate::sys::inherit::inherited;

/// The first descriptor that is passed (`SD_LISTEN_FDS_START`).
const FIRST: i32 = 3;

/// Takes what `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES` speak of; nothing if they are meant
/// for another process. Once, before anything else is opened.
pub(crate) fn take() -> Result<Vec<Passed>, InheritedError> {
    let own = rustix::process::getpid().as_raw_nonzero().to_string();
    if std::env::var("LISTEN_PID").ok().as_ref() != Some(&own) {
        return Ok(Vec::new());
    }
    let count = std::env::var("LISTEN_FDS").unwrap_or_default();
    let number = count.parse().ok().filter(|number| (0..=i32::from(MOST_PASSED)).contains(number));
    let number: i32 = number.ok_or(InheritedError::Count(count))?;
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let take = |number| {
        let name = names.next().unwrap_or_default().to_owned();
        let socket = inherited(number);
        let socket = socket.map_err(|error| InheritedError::NoSocket { number, error })?;
        Ok(Passed { number, name, socket })
    };
    (FIRST..FIRST + number).map(take).collect()
}
