//! Linux's signals by number (signal(7)), the same on every architecture that is built for.

/// Names from number 1 on, without `SIG`.
pub const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// A signal's name; `None` for real-time signals, which have numbers only.
pub fn signal_name(number: u8) -> Option<&'static str> {
    SIGNALS.get(usize::from(number).checked_sub(1)?).copied()
}

/// A signal's number.
pub fn signal_number(name: &str) -> Option<u8> {
    (1..).zip(SIGNALS).find(|(_, known)| *known == name).map(|(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        for (name, number) in [("HUP", 1), ("KILL", 9), ("TERM", 15), ("SYS", 31)] {
            assert_eq!(signal_name(number), Some(name));
            assert_eq!(signal_number(name), Some(number));
        }
        assert_eq!((signal_name(0), signal_name(40), signal_number("NOPE")), (None, None, None));
    }
}
