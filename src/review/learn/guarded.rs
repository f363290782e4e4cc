//! Paths that no learned policy proposes, and directories that it never proposes as a whole.

/// Files and directories with secrets, or by which a process takes over others. What is named
/// without a leading slash is a name anywhere beneath.
const GUARDED: [&str; 16] = [
    "/etc/gshadow",
    "/etc/shadow",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/ssh",
    "/etc/ssl/private",
    "/etc/krb5.keytab",
    "/boot",
    "/var/lib/cofferdam",
    "/var/log/audit",
    ".aws",
    ".docker",
    ".git-credentials",
    ".gnupg",
    ".netrc",
    ".ssh",
];

/// Directories in which things of many owners lie: what is in them is named one by one.
const SHARED: [&str; 13] = [
    "/etc/ssl",
    "/run/user",
    "/usr/bin",
    "/usr/lib",
    "/usr/local",
    "/usr/share",
    "/var/cache",
    "/var/lib",
    "/var/log",
    "/var/mail",
    "/var/run",
    "/var/spool",
    "/var/tmp",
];

/// Directories each of whose entries is such a directory: a person's home.
const HOMES: [&str; 2] = ["/home", "/run/user"];

/// Whether a path leads to something guarded, or is beneath it.
pub(crate) fn is_guarded(path: &str) -> bool {
    GUARDED.iter().any(|guarded| {
        if guarded.starts_with('/') {
            is_within(path, guarded)
        } else {
            path.split('/').any(|part| part == *guarded)
        }
    })
}

/// Whether a directory may be granted with all that lies beneath it, for the sake of several things
/// in it.
pub(crate) fn is_joinable(directory: &str) -> bool {
    let parent = directory.rsplit_once('/').map_or("", |(parent, _)| parent);
    let is_shared = SHARED.contains(&directory) || HOMES.contains(&parent);
    // One part alone is a whole branch of the system.
    let is_deep = directory.matches('/').count() >= 2;
    let holds_guarded = GUARDED.iter().any(|guarded| is_within(guarded, directory));
    is_deep && !is_shared && !holds_guarded && !is_guarded(directory)
}

/// Whether a path is another one or lies beneath it.
pub(crate) fn is_within(path: &str, above: &str) -> bool {
    let Some(rest) = path.strip_prefix(above.trim_end_matches('/')) else { return false };
    rest.is_empty() || rest.starts_with('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_guarded_wherever_they_lie() {
        for secret in ["/etc/shadow", "/etc/ssh/ssh_host_key", "/home/a/.ssh/id", "/root/.netrc"] {
            assert!(is_guarded(secret), "{secret}");
        }
        assert!(!is_guarded("/etc/shadows") && !is_guarded("/home/a/ssh"));
    }

    #[test]
    fn what_many_share_is_never_taken_as_a_whole() {
        for wide in
            ["/", "/etc", "/home", "/home/ann", "/root", "/proc", "/tmp", "/var/lib", "/data"]
        {
            assert!(!is_joinable(wide), "{wide}");
        }
        for own in ["/home/ann/site", "/var/lib/redis", "/srv/www", "/etc/nginx"] {
            assert!(is_joinable(own), "{own}");
        }
    }
}
