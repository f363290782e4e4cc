//! Words of a unit file (systemd.syntax(7)).

use std::fmt::Write;

/// A path of a list of binds: quoted, its colons too.
pub(super) fn path(path: &str) -> String {
    quote(&path.replace('\\', "\\\\").replace(':', "\\:"), false)
}

/// A word that systemd splits no further and puts nothing into (systemd.syntax(7)). In `ExecStart`
/// a `$` would be a variable.
pub(super) fn quote(text: &str, command: bool) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=+,@:".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '%' => out.push_str("%%"),
            '$' if command => out.push_str("$$"),
            c if c.is_control() => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(out, "\\x{byte:02x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A text in which systemd puts nothing in place of a `%`.
pub(super) fn percent(text: &str) -> String {
    text.replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::{path, quote};

    #[test]
    fn nothing_leaves_its_word() {
        assert_eq!(quote("/usr/bin/jq", true), "/usr/bin/jq");
        assert_eq!(quote("a b\"\\\n$%", true), r#""a b\"\\\x0a$$%%""#);
        assert_eq!(quote("", true), "\"\"");
        assert_eq!(path("/a:b"), r#""/a\\:b""#);
    }
}
