//! From the path of a request to a path beneath the document root, and back. Pure.

/// The longest request path that is looked at, in bytes.
pub(crate) const MAX: usize = 4096;

/// A path beneath the document root: components joined by single slashes, none of them empty,
/// `.` or `..`. The root itself is the empty path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SitePath {
    /// The path, without a slash at either end.
    pub(crate) path: String,
    /// Whether the request named a directory, by a slash or a dot at the end.
    pub(crate) directory: bool,
}

/// The request's path is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl SitePath {
    /// Decodes percent signs once (RFC 3986 section 2.1) and resolves `.` and `..` as a browser
    /// would (section 5.2.4), except that `..` at the root is an error.
    ///
    /// A slash that was written `%2F` is an error too: no file's name has one in it, and whoever
    /// writes it hopes that two readers disagree.
    pub(crate) fn parse(request: &str) -> Result<Self, Malformed> {
        if request.len() > MAX {
            return Err(Malformed);
        }
        let rest = request.strip_prefix('/').ok_or(Malformed)?;
        let mut components: Vec<String> = Vec::new();
        let mut directory = true;
        for raw in rest.split('/') {
            let component = decode(raw)?;
            directory = matches!(component.as_str(), "" | "." | "..");
            match component.as_str() {
                "" | "." => {}
                ".." => {
                    components.pop().ok_or(Malformed)?;
                }
                _ => components.push(component),
            }
        }
        Ok(Self { path: components.join("/"), directory })
    }

    /// The index page of the directory of this name.
    pub(crate) fn index(&self) -> String {
        if self.path.is_empty() {
            "index.html".to_owned()
        } else {
            format!("{}/index.html", self.path)
        }
    }

    /// The request path of the directory of this name: one slash in front, one at the end, so it
    /// can never be read as the name of another host.
    pub(crate) fn as_directory(&self) -> String {
        if self.path.is_empty() { "/".to_owned() } else { format!("/{}/", encode(&self.path)) }
    }
}

/// One component, decoded; it holds neither slash nor zero byte.
fn decode(raw: &str) -> Result<String, Malformed> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let (byte, after) = match (first, after) {
            (b'%', [high, low, after @ ..]) => (hex(*high)? << 4 | hex(*low)?, after),
            (b'%', _) => return Err(Malformed),
            _ => (first, after),
        };
        if byte == 0 || byte == b'/' {
            return Err(Malformed);
        }
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| Malformed)
}

fn hex(digit: u8) -> Result<u8, Malformed> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(Malformed),
    }
}

/// Writes every byte but slashes and the unreserved ones (RFC 3986 section 2.3) as `%XX`.
fn encode(path: &str) -> String {
    use std::fmt::Write;
    path.bytes().fold(String::with_capacity(path.len()), |mut text, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                text.push(char::from(byte));
            }
            _ => {
                let _ = write!(text, "%{byte:02X}");
            }
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> SitePath {
        SitePath { path: path.to_owned(), directory: false }
    }

    fn directory(path: &str) -> SitePath {
        SitePath { path: path.to_owned(), directory: true }
    }

    #[test]
    fn ordinary_paths() {
        assert_eq!(SitePath::parse("/"), Ok(directory("")));
        assert_eq!(SitePath::parse("/a.html"), Ok(file("a.html")));
        assert_eq!(SitePath::parse("/a/b/"), Ok(directory("a/b")));
        assert_eq!(SitePath::parse("//a///b"), Ok(file("a/b")));
        assert_eq!(SitePath::parse("/a%20b/%C3%A4"), Ok(file("a b/ä")));
        assert_eq!(SitePath::parse("/a+b"), Ok(file("a+b")));
        assert_eq!(SitePath::parse("/..."), Ok(file("...")));
    }

    #[test]
    fn dots_are_resolved_and_never_lead_out() {
        assert_eq!(SitePath::parse("/a/../b"), Ok(file("b")));
        assert_eq!(SitePath::parse("/a/./b/."), Ok(directory("a/b")));
        assert_eq!(SitePath::parse("/a/b/.."), Ok(directory("a")));
        assert_eq!(SitePath::parse("/a/%2e%2E/b"), Ok(file("b")));
        for out in ["/..", "/../etc/passwd", "/a/../../b", "/%2e%2e/x", "/a/%2E./../x"] {
            assert_eq!(SitePath::parse(out), Err(Malformed), "{out}");
        }
    }

    #[test]
    fn what_is_no_path() {
        for bad in ["", "a", "*", "/%", "/%4", "/%zz", "/a%00b", "/a%2Fb", "/%ff", "/%+1"] {
            assert_eq!(SitePath::parse(bad), Err(Malformed), "{bad}");
        }
        assert_eq!(SitePath::parse(&format!("/{}", "a".repeat(MAX))), Err(Malformed));
        // Decoded once and only once.
        assert_eq!(SitePath::parse("/%252e%252e/x"), Ok(file("%2e%2e/x")));
    }

    #[test]
    fn redirects_stay_on_this_host() {
        let to = |request| SitePath::parse(request).unwrap().as_directory();
        assert_eq!(to("//evil.example"), "/evil.example/");
        assert_eq!(to("/a b/\\x"), "/a%20b/%5Cx/");
        assert_eq!(to("/a%0d%0aSet-Cookie:x"), "/a%0D%0ASet-Cookie%3Ax/");
        assert_eq!(to("/"), "/");
    }

    #[test]
    fn index_pages() {
        assert_eq!(SitePath::parse("/").unwrap().index(), "index.html");
        assert_eq!(SitePath::parse("/a/b/").unwrap().index(), "a/b/index.html");
    }
}
