//! Names that people know for numbers, and numbers of things.

use crate::policy::capability::CAPABILITIES;
use crate::policy::signal::signal_name;

/// A signal's name without `SIG`; real-time signals have numbers only.
pub(crate) fn signal(number: u8) -> String {
    signal_name(number).map_or_else(|| number.to_string(), str::to_owned)
}

/// A capability's name, as policies write it.
pub(crate) fn capability(number: u8) -> String {
    let name = CAPABILITIES.get(usize::from(number));
    name.map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

/// The number of a capability.
pub(crate) fn capability_number(name: &str) -> Option<u8> {
    CAPABILITIES.iter().position(|known| *known == name).and_then(|at| u8::try_from(at).ok())
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
