//! Directories of a layer's own: `state = "/var/lib/x"`, or with a size.

use super::kinds::{Path, Size};
use super::{At, Kind, Section, Takes, string, table};
use crate::policy::diagnostic::Diagnostics;
use crate::policy::tree::Value;

table! { DIRECTORY, DirectoryText: "directory", "runtime-directory = { ... }", "a directory";
    "A directory of a layer's own, with a size. Without a size the path alone will do.";

    path: Path => "`path = \"/run/name\"`"; "Absolute path, as the layer sees it."; "";
    size: Size<u64, { 4 << 10 }, { 1 << 40 }>, or "`\"16MiB\"` of a `runtime-directory`";
        "The most bytes in it. Only of a `runtime-directory`, which is in memory.";
        "tmpfs(5).";
}

/// A path, or a path with a size.
pub(crate) struct Directory;

impl Takes for Directory {
    type Text = Option<DirectoryText>;
    const KIND: Kind = Kind::Either(&Kind::Path, &Kind::Table(&DIRECTORY));

    fn read(layer: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
        let node = layer.get(key)?;
        if let Value::Table(_) = node.value {
            return Some(Section::open(node, &DIRECTORY, out)?.read(out));
        }
        let path: At<String> = string(node, key, out)?;
        Some(DirectoryText { path: Some(path), size: None })
    }
}
