//! The file of a host's private key, and the one beside it with the public key: 64 hex digits in a line,
//! behind lines that begin with `#`.

use std::path::{Path, PathBuf};

use crate::ident::{hex, unhex};

/// The most bytes of such a file.
pub const MOST: usize = 4096;

/// Where a daemon of root's looks for it.
pub const OF_ROOT: &str = "/etc/cofferdam/host.key";

/// The key in a file's text; `None` if there is none.
pub fn parse(text: &[u8]) -> Option<[u8; 32]> {
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let digits = lines.find(|line| !line.is_empty() && !line.starts_with(b"#"))?;
    unhex(digits)
}

/// A file's text.
pub fn text(about: &str, key: &[u8; 32]) -> String {
    format!("# {about}\n{}\n", hex(key))
}

/// Where the public key is, beside the private one.
pub fn public(private: &Path) -> PathBuf {
    let mut name = private.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// Where the daemons of the user who runs this look for the private key: root's in `/etc`, others' in
/// their own configuration.
pub fn default_path(is_root: bool) -> PathBuf {
    if is_root {
        return OF_ROOT.into();
    }
    let set = |name| std::env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
    config.unwrap_or_else(|| "/nonexistent".into()).join("cofferdam/host.key")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_wrote() {
        let key = [0xa7; 32];
        assert_eq!(parse(text("of a host", &key).as_bytes()), Some(key));
        for text in ["", "#", "abc", &"a".repeat(63), &"g".repeat(64), &"a".repeat(66)] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(public(Path::new("/x/host.key")), Path::new("/x/host.key.pub"));
    }
}
