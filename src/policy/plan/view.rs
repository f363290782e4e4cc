//! What a layer sees of the machine's files besides its grants, in named parts.

use serde::{Deserialize, Serialize};

/// What of the file system a layer sees besides its grants; without parts, nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Each once, sorted.
    parts: Vec<ViewPart>,
}

/// A part of a view. What is of the machine is seen as far as the machine has it, read-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ViewPart {
    /// The system's programs and libraries, harmless devices, and for an `exec` layer a list of
    /// users, groups and hosts of its own.
    System,
    /// Certificates of authorities, and where libraries look for them.
    Tls,
    /// The machine's time zone, and all others.
    Zone,
    /// What is needed to look names of hosts and services up, without asking anybody.
    Resolve,
    /// Languages and their rules.
    Locale,
    /// `/proc` of the layer's own pid namespace.
    Proc,
    /// A `/tmp` of its own in memory, of at most so many bytes.
    Tmp(u64),
    /// A `/dev/shm` of its own, of at most so many bytes.
    Shm(u64),
}

impl View {
    /// Programs, libraries and what they expect, and nothing else.
    pub fn system() -> Self {
        Self { parts: vec![ViewPart::System] }
    }

    /// These parts. Of two of one name the smaller one stays.
    pub fn of(parts: impl IntoIterator<Item = ViewPart>) -> Self {
        let mut parts: Vec<_> = parts.into_iter().collect();
        parts.sort_unstable();
        parts.dedup_by_key(|part| part.name());
        Self { parts }
    }

    /// Its parts, sorted.
    pub fn parts(&self) -> &[ViewPart] {
        &self.parts
    }

    /// Whether the layer sees nothing but its grants.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether it sees the system's programs and libraries.
    pub fn has_system(&self) -> bool {
        self.parts.contains(&ViewPart::System)
    }

    /// The paths of the machine that its parts show.
    pub fn paths(&self) -> impl Iterator<Item = &'static str> {
        self.parts.iter().flat_map(|part| part.paths()).copied()
    }
}

impl ViewPart {
    /// What `proc` shows of the machine besides the layer's processes: processors, memory, load and
    /// version, and settings, which nobody can change by a read-only mount (proc(5)).
    pub const OF_MACHINE: [&str; 17] = [
        "cgroups",
        "cpuinfo",
        "crypto",
        "devices",
        "filesystems",
        "loadavg",
        "meminfo",
        "misc",
        "mounts",
        "net",
        "self",
        "stat",
        "swaps",
        "sys",
        "thread-self",
        "uptime",
        "version",
    ];

    /// The words for them, in the order in which people are told of them, with whether a size goes
    /// with the word.
    pub const WORDS: [(&str, bool); 8] = [
        ("system", false),
        ("tls", false),
        ("zone", false),
        ("resolve", false),
        ("locale", false),
        ("proc", false),
        ("tmp", true),
        ("shm", true),
    ];

    /// The part of that word, if one is called so and a size goes with it or doesn't, as here.
    pub fn named(word: &str, size: Option<u64>) -> Option<Self> {
        Some(match (word, size) {
            ("system", None) => Self::System,
            ("tls", None) => Self::Tls,
            ("zone", None) => Self::Zone,
            ("resolve", None) => Self::Resolve,
            ("locale", None) => Self::Locale,
            ("proc", None) => Self::Proc,
            ("tmp", Some(size)) => Self::Tmp(size),
            ("shm", Some(size)) => Self::Shm(size),
            _ => return None,
        })
    }

    /// Its word, without a size.
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Tls => "tls",
            Self::Zone => "zone",
            Self::Resolve => "resolve",
            Self::Locale => "locale",
            Self::Proc => "proc",
            Self::Tmp(_) => "tmp",
            Self::Shm(_) => "shm",
        }
    }

    /// How much of memory it may take, in bytes, if it takes any.
    pub const fn size(self) -> Option<u64> {
        match self {
            Self::Tmp(size) | Self::Shm(size) => Some(size),
            _ => None,
        }
    }

    /// What it is for, as the end of "it sees".
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::System => "the system's programs and libraries",
            Self::Tls => "certificates of authorities",
            Self::Zone => "time zones",
            Self::Resolve => "names of hosts and services",
            Self::Locale => "languages and their rules",
            Self::Proc => "its own processes in /proc",
            Self::Tmp(_) => "a /tmp of its own",
            Self::Shm(_) => "a /dev/shm of its own",
        }
    }

    /// The paths of the machine that it shows.
    pub const fn paths(self) -> &'static [&'static str] {
        match self {
            Self::System => &SYSTEM,
            Self::Tls => &TLS,
            Self::Zone => &["/etc/localtime", "/etc/timezone", "/usr/share/zoneinfo"],
            Self::Resolve => {
                &["/etc/gai.conf", "/etc/host.conf", "/etc/protocols", "/etc/services"]
            }
            Self::Locale => &LOCALE,
            Self::Proc | Self::Tmp(_) | Self::Shm(_) => &[],
        }
    }
}

/// Directories; on a machine with merged `/usr` most are links. Debian's names of programs lead
/// through the one in `/etc`, and without the cache every library is searched for.
const SYSTEM: [&str; 9] = [
    "/bin",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/sbin",
    "/usr",
];

/// Where distributions have them. Private keys lie beside these, not in them.
const TLS: [&str; 9] = [
    "/etc/ca-certificates/extracted",
    "/etc/pki/ca-trust/extracted",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/certs",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/usr/local/share/ca-certificates",
    "/usr/share/ca-certificates",
];

const LOCALE: [&str; 6] = [
    "/etc/default/locale",
    "/etc/locale.alias",
    "/etc/locale.conf",
    "/usr/lib/locale",
    "/usr/share/i18n",
    "/usr/share/locale",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_found_by_its_word() {
        for (word, is_sized) in ViewPart::WORDS {
            let part = ViewPart::named(word, is_sized.then_some(4096)).expect(word);
            assert_eq!((part.name(), part.size().is_some()), (word, is_sized));
            assert_eq!(ViewPart::named(word, (!is_sized).then_some(4096)), None, "{word}");
        }
    }

    #[test]
    fn no_part_is_there_twice() {
        let view = View::of([ViewPart::Tmp(9), ViewPart::Proc, ViewPart::Tmp(7)]);
        assert_eq!(view.parts(), [ViewPart::Proc, ViewPart::Tmp(7)]);
    }
}
