//! Names beneath a granted directory: which are well formed, and which the policy denies.

/// The longest name of a file in bytes (`NAME_MAX`).
const MAX_NAME: usize = 255;

/// Whether two absolute, plain paths are the same, or one lies beneath the other.
pub fn touch(one: &str, other: &str) -> bool {
    let within = |inner: &str, outer: &str| {
        let rest = inner.strip_prefix(outer.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    within(one, other) || within(other, one)
}

/// Whether `path` is one or more names joined by single slashes: no leading or trailing slash, no
/// empty part, no `.` or `..`, no zero byte, no name longer than the kernel takes.
pub fn is_plain(path: &[u8]) -> bool {
    path.split(|&byte| byte == b'/').all(|name| {
        !matches!(name, b"" | b"." | b"..") && name.len() <= MAX_NAME && !name.contains(&0)
    })
}

/// The first pattern of `deny` that a part of `path` matches.
///
/// `*` stands for any bytes within one name. Letters of either case are one, and dots and spaces
/// at a name's end don't count, for there are file systems to which such names are the same.
/// Bytes that are no UTF-8 are compared as they are.
pub fn denied<'p>(deny: &'p [String], path: &[u8]) -> Option<&'p str> {
    if deny.is_empty() {
        return None;
    }
    let parts: Vec<Vec<u8>> = path.split(|&byte| byte == b'/').map(fold).collect();
    deny.iter().map(String::as_str).find(|pattern| {
        let pattern = fold(pattern.as_bytes());
        parts.iter().any(|name| matches(&pattern, name))
    })
}

/// A name in the form in which it is compared.
fn fold(name: &[u8]) -> Vec<u8> {
    let end = name.iter().rposition(|byte| !b". ".contains(byte)).map_or(0, |last| last + 1);
    let mut folded = Vec::with_capacity(end);
    for chunk in name[..end].utf8_chunks() {
        // Up and down again: some letters meet on one of the two ways only.
        let upper = chunk.valid().chars().flat_map(char::to_uppercase);
        folded.extend(upper.flat_map(char::to_lowercase).collect::<String>().into_bytes());
        folded.extend(chunk.invalid());
    }
    folded
}

/// Whether `name` matches `pattern`, in a time that grows with the product of their lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where to go on when what follows the last star doesn't match.
    let mut again: Option<(usize, usize)> = None;
    while n < name.len() {
        match (pattern.get(p), again) {
            (Some(b'*'), _) => {
                again = Some((p, n));
                p += 1;
            }
            (Some(byte), _) if *byte == name[n] => (p, n) = (p + 1, n + 1),
            (_, Some((star, from))) => {
                again = Some((star, from + 1));
                (p, n) = (star + 1, from + 1);
            }
            (_, None) => return false,
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_names_and_slashes() {
        for path in ["a", "a/b", "...", ".hidden", "a b", "ä"] {
            assert!(is_plain(path.as_bytes()), "{path}");
        }
        for path in ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\0b"] {
            assert!(!is_plain(path.as_bytes()), "{path}");
        }
        assert!(!is_plain(&[b'a'; 256]));
        assert!(is_plain(b"\xff\xfe"));
    }

    #[test]
    fn patterns_deny_names_anywhere_in_the_path() {
        let deny = ["*.key".to_owned(), "secret".to_owned(), "a*b*c".to_owned()];
        for path in [
            "x.key",
            ".key",
            "d/x.key",
            "x.key/y",
            "X.KEY",
            "x.\u{212a}ey",
            "x.key.",
            "x.key ",
            "secret",
            "SECRET/a",
            "abc",
            "a-b-bc",
            "\u{17f}ecret",
        ] {
            assert!(denied(&deny, path.as_bytes()).is_some(), "{path}");
        }
        for path in ["x.keys", "key", "secrets", "ab", "acb", "x.key.txt"] {
            assert_eq!(denied(&deny, path.as_bytes()), None, "{path}");
        }
        assert!(denied(&deny, b"\xff.key").is_some());
        assert_eq!(denied(&["\u{fffd}".to_owned()], b"\xff"), None);
        assert_eq!(denied(&[], b"x.key"), None);
        assert!(denied(&["*".to_owned()], b"anything").is_some());
        let many = ["*a".repeat(100)];
        assert_eq!(denied(&many, &[b'a'; 99]), None);
        assert!(denied(&many, &[b'a'; 255]).is_some());
    }
}
