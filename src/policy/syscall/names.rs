//! Names and numbers: system calls of the running architecture, and errors.

use std::collections::HashMap;
use std::sync::LazyLock;

use syscalls::{Errno, Sysno};

/// The architecture this program was built for, as messages write it.
pub const ARCHITECTURE: &str = std::env::consts::ARCH;

/// The number of a system call on the running architecture.
pub fn by_name(name: &str) -> Option<u32> {
    // Every start of a daemon looks up thousands; to compare with each name in turn shows there.
    static NUMBERS: LazyLock<HashMap<&'static str, u32>> =
        LazyLock::new(|| all().map(|(number, name)| (name, number)).collect());
    NUMBERS.get(name).copied()
}

/// The name of a system call of the running architecture.
pub fn name_of(number: u32) -> Option<&'static str> {
    Sysno::new(usize::try_from(number).ok()?).map(|call| call.name())
}

/// Every system call of the running architecture, by number.
pub fn all() -> impl Iterator<Item = (u32, &'static str)> {
    (0..=number(Sysno::last())).filter_map(|number| Some((number, name_of(number)?)))
}

/// Whether any architecture that cofferdam knows has a call of this name.
///
/// So a name that only the running architecture lacks, as aarch64 lacks `open`, is told from a
/// slip of the pen.
pub(super) fn exists_elsewhere(name: &str) -> bool {
    use syscalls::{aarch64, x86_64};
    name.parse::<x86_64::Sysno>().is_ok() || name.parse::<aarch64::Sysno>().is_ok()
}

/// The number of an error by its name, such as `ENOENT`; see errno(3).
pub fn errno(name: &str) -> Option<u16> {
    match name {
        "EWOULDBLOCK" => return errno("EAGAIN"),
        "EDEADLOCK" => return errno("EDEADLK"),
        "ENOTSUP" => return errno("EOPNOTSUPP"),
        // The kernel's own marks, which no program ever sees.
        "ERESTART" => return None,
        _ => {}
    }
    (1..=LAST_ERRNO).find(|&number| Errno::new(number.into()).name() == Some(name))
}

/// The name of an error.
pub fn errno_name(number: u16) -> Option<&'static str> {
    if number > LAST_ERRNO { None } else { Errno::new(number.into()).name() }
}

/// `EHWPOISON`, the highest error that programs see.
const LAST_ERRNO: u16 = 133;

fn number(call: Sysno) -> u32 {
    // Numbers begin at 0 on every architecture.
    u32::try_from(call.id()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_inverse() {
        assert!(all().count() > 300);
        for (number, name) in all() {
            assert_eq!(by_name(name), Some(number));
        }
        assert_eq!(by_name("reed"), None);
        assert_eq!(name_of(9999), None);
    }

    #[test]
    fn errors_have_their_numbers() {
        assert_eq!(errno("EPERM"), Some(1));
        assert_eq!(errno("ENOENT"), Some(2));
        assert_eq!(errno("EAGAIN"), errno("EWOULDBLOCK"));
        assert_eq!(errno("ENOSYS"), Some(38));
        assert_eq!(errno("EHWPOISON"), Some(133));
        assert_eq!(errno("ERESTARTSYS"), None);
        assert_eq!(errno("enoent"), None);
        assert_eq!(errno_name(38), Some("ENOSYS"));
    }
}
