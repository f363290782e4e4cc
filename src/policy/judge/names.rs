//! Names that people know for numbers.

use crate::policy::check::CAPABILITIES;

/// Signals by number from 1, alike on x86-64 and 64-bit ARM (signal(7)).
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// A signal's name without `SIG`; real-time signals have numbers only.
pub(super) fn signal(number: u8) -> String {
    let name = usize::from(number).checked_sub(1).and_then(|at| SIGNALS.get(at));
    name.map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

/// A capability's name, as policies write it.
pub(super) fn capability(number: u8) -> String {
    let name = CAPABILITIES.get(usize::from(number));
    name.map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_have_their_names() {
        assert_eq!(super::signal(1), "HUP");
        assert_eq!(super::signal(15), "TERM");
        assert_eq!(super::signal(31), "SYS");
        assert_eq!(super::signal(40), "40");
        assert_eq!(super::capability(13), "CAP_NET_RAW");
    }
}
