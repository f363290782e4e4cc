//! Paths of the host at which layers may meet.

use crate::ident::Name;
use crate::policy::plan::{FileRight, MapRight, Plan};
use crate::policy::ways::act::Act;

/// A path of the host, who may change what is there, and who reads it.
pub(super) struct Spot<'p> {
    pub(super) path: &'p str,
    pub(super) object: String,
    /// The rule of its only writer, where it isn't a grant of the object's.
    pub(super) rule: Option<String>,
    pub(super) writers: Vec<(&'p Name, Act)>,
    pub(super) readers: Vec<&'p Name>,
}

/// Every path that the plan grants in some way.
pub(super) fn spots(plan: &Plan) -> Vec<Spot<'_>> {
    let files = plan.files.iter().map(|file| {
        let change = [
            FileRight::Write,
            FileRight::Append,
            FileRight::Create,
            FileRight::Truncate,
            FileRight::Remove,
            // Whoever lists a directory learns of each name that comes and goes.
            FileRight::Mkdir,
            FileRight::Rmdir,
            FileRight::Move,
            FileRight::Symlink,
            FileRight::Socket,
            FileRight::Fifo,
        ];
        // Who makes a socket hears what is sent to it.
        let read = [FileRight::Read, FileRight::Execute, FileRight::List, FileRight::Socket];
        let first = |rights: &[FileRight], of: &[FileRight]| {
            of.iter().copied().find(|right| rights.contains(right))
        };
        let writers = file
            .grant
            .iter()
            .filter_map(|(layer, rights)| Some((layer, Act::from(first(rights, &change)?))));
        let readers = file.grant.iter().filter(|(_, rights)| first(rights, &read).is_some());
        Spot {
            path: &file.path,
            object: format!("file.{}", file.name),
            rule: None,
            writers: writers.collect(),
            readers: readers.map(|(layer, _)| layer).collect(),
        }
    });
    let mapped = plan.facilities.mapped_files.iter().map(|file| Spot {
        path: &file.path,
        object: format!("mapped-file.{}", file.name),
        rule: None,
        writers: file
            .grant
            .iter()
            .filter(|(_, right)| **right == MapRight::ReadWrite)
            .map(|(layer, _)| (layer, Act::Write))
            .collect(),
        readers: file.grant.keys().collect(),
    });
    let fifos = plan.facilities.fifos.iter().map(|fifo| Spot {
        path: &fifo.path,
        object: format!("fifo.{}", fifo.name),
        rule: None,
        writers: Vec::new(),
        readers: vec![&fifo.to],
    });
    let owned = plan.layers.iter().flat_map(|layer| {
        // What isn't kept is seen by nobody else.
        let kept = layer.directories.iter().filter(|it| it.kind.is_kept());
        kept.map(|it| Spot {
            path: &it.path,
            object: format!("{}.{}", it.kind.name(), layer.name),
            rule: Some(format!("layer.{}.{}", layer.name, it.kind.name())),
            writers: vec![(&layer.name, Act::Own)],
            readers: vec![&layer.name],
        })
    });
    files.chain(mapped).chain(fifos).chain(owned).collect()
}

/// A path and every directory above it.
pub(super) fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    let cuts = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0);
    let root = (path.len() > 1).then_some("/");
    root.into_iter().chain(cuts.map(|at| &path[..at])).chain([path])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_its_directories_above_it() {
        assert_eq!(ancestors("/a/b/c").collect::<Vec<_>>(), ["/", "/a", "/a/b", "/a/b/c"]);
        assert_eq!(ancestors("/").collect::<Vec<_>>(), ["/"]);
    }
}
