//! Checking paths against each other: files, fifos, mapped files and sockets.

use std::collections::BTreeMap;

use super::directory;
use crate::policy::code::Code;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::document::{At, Document, FileText};
use crate::policy::plan::{FileRight, ListenAddress};

pub(super) fn all(document: &Document, out: &mut Diagnostics) {
    one_grant_a_path(document, out);
    overlaps(&document.files, out);
    led_astray(document, out);
    one_thing_a_place(&document.files, out);
}

/// A socket in a directory beneath a grant by which a layer could put a link in that directory's
/// place: the supervisor, which binds the socket, may follow links, for `/var/run` is one.
fn led_astray(document: &Document, out: &mut Diagnostics) {
    let leads =
        |right: &&At<FileRight>| matches!(right.value, FileRight::Symlink | FileRight::Move);
    for address in document.layers.iter().flat_map(|it| &it.listen).flat_map(|it| &it.address) {
        let ListenAddress::Unix(socket) = &address.value else { continue };
        for file in &document.files {
            let beneath = |path: &At<String>| above(socket).skip(1).any(|it| it == path.value);
            let Some(path) = file.path.as_ref().filter(|path| beneath(path)) else { continue };
            let grants = file.grant.iter().flat_map(|grant| &grant.value);
            let mut rights = grants.flat_map(|(_, rights)| &rights.value);
            let Some(right) = rights.find(leads) else { continue };
            let message = format!("`unix:{}` could be led elsewhere", socket.escape_debug());
            out.error(Code::LedAstray, &address.span, message)
                .label(format!("the supervisor binds it beneath `{}`", path.value.escape_debug()))
                .also(&right.span, "by this right a layer could put a link in its way")
                .help("bind it elsewhere, or grant only directories that are not above it");
        }
        for (layer, own) in directory::owned_by(document) {
            if above(socket).skip(1).any(|it| it == own.value) {
                let message = format!("`unix:{}` could be led elsewhere", socket.escape_debug());
                let owner = layer.name.value.escape_debug();
                out.error(Code::LedAstray, &address.span, message)
                    .label(format!(
                        "the supervisor binds it beneath `{}`",
                        own.value.escape_debug()
                    ))
                    .also(&own.span, format!("`{owner}`, whose it is, could put a link in its way"))
                    .help("bind it right in that directory, or elsewhere");
            }
        }
    }
}

/// Two files that one layer sees at one place: one of them would hide the other.
fn one_thing_a_place(files: &[FileText], out: &mut Diagnostics) {
    for (number, file) in files.iter().enumerate() {
        let Some(at) = &file.at else { continue };
        for (other, twin) in files.iter().enumerate() {
            let Some(place) = twin.at.as_ref().or(twin.path.as_ref()) else { continue };
            // Two that both say it are told once, at the later.
            let is_told = other == number || (twin.at.is_some() && other > number);
            let mut layers = file.grant.iter().flat_map(|grant| &grant.value);
            let is_seen_by_one = layers.any(|(layer, _)| twin.is_granted_to(&layer.value));
            if !is_told && place.value == at.value && is_seen_by_one {
                let message = format!("two files are seen at `{}`", at.value.escape_debug());
                out.error(Code::PathTwice, &at.span, message)
                    .label("here again")
                    .also(&place.span, "first here")
                    .help("give each a place of its own");
            }
        }
    }
}

/// Two grants on one path: whoever reads one believes to know who may do what.
fn one_grant_a_path(document: &Document, out: &mut Diagnostics) {
    let files = document.files.iter().filter_map(|file| file.path.as_ref());
    let fifos = document.fifos.iter().filter_map(|fifo| fifo.path.as_ref());
    let mapped = document.mapped_files.iter().filter_map(|file| file.path.as_ref());
    let plain = files.chain(fifos).chain(mapped).map(|path| (path.value.as_str(), &path.span));
    let sockets = document.layers.iter().flat_map(|layer| &layer.listen);
    let sockets =
        sockets.flat_map(|socket| &socket.address).filter_map(|address| match &address.value {
            ListenAddress::Unix(path) => Some((path.as_str(), &address.span)),
            _ => None,
        });
    let mut paths: Vec<_> = plain.collect();
    paths.sort_by_key(|(_, span)| span.start);
    let mut seen = BTreeMap::new();
    // Two sockets on one path are told as two sockets on one address.
    let mut taken: BTreeMap<_, _> = sockets.collect();
    for (path, span) in paths {
        let first = seen.insert(path, span).or_else(|| taken.remove(path));
        if let Some(first) = first {
            let message = format!("`{}` is granted in two places", path.escape_debug());
            out.error(Code::PathTwice, span, message)
                .label("here again")
                .also(first, "first here")
                .help("put both grants into one table");
        }
    }
}

/// A path within another one: the kernel adds their rights up, so a layer that has both has what
/// the wider one gives, whatever the narrower says.
fn overlaps(files: &[FileText], out: &mut Diagnostics) {
    let mut sorted: Vec<(&At<String>, &FileText)> =
        files.iter().filter_map(|file| Some((file.path.as_ref()?, file))).collect();
    sorted.sort_by(|a, b| a.0.value.cmp(&b.0.value));
    let by_path: BTreeMap<&str, &FileText> =
        sorted.iter().map(|(path, file)| (path.value.as_str(), *file)).collect();
    for (path, inner) in sorted {
        for outer in above(&path.value).filter_map(|above| by_path.get(above)) {
            for (layer, rights) in inner.grant.iter().flat_map(|grant| &grant.value) {
                let wide = outer.grant.iter().flat_map(|grant| &grant.value);
                let Some((_, more)) = wide.into_iter().find(|(one, _)| one.value == layer.value)
                else {
                    continue;
                };
                different(path, &rights.value, more, outer, out);
            }
        }
    }
}

fn different(
    path: &At<String>,
    rights: &[At<FileRight>],
    more: &At<Vec<At<FileRight>>>,
    outer: &FileText,
    out: &mut Diagnostics,
) {
    let holds = |right: &FileRight| rights.iter().any(|own| own.value == *right);
    // More rights within are what a grant within is for.
    if more.value.iter().all(|right| holds(&right.value)) {
        return;
    }
    let wide = outer.path.as_ref().map_or("", |path| path.value.as_str());
    let message = format!("`{}` narrows nothing", path.value.escape_debug());
    out.warning(Code::Overlap, &path.span, message)
        .label(format!("the layer has more rights on `{}` around it", wide.escape_debug()))
        .also(&more.span, "these hold within too")
        .help("grant the parts one by one, or take the inner grant out");
}

/// The directories above a path, the nearest first.
fn above(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(path);
    std::iter::from_fn(move || {
        let path = rest?;
        if path == "/" {
            return None;
        }
        let (folder, _) = path.rsplit_once('/')?;
        rest = Some(if folder.is_empty() { "/" } else { folder });
        rest
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_above() {
        assert_eq!(super::above("/a/b/c").collect::<Vec<_>>(), ["/a/b", "/a", "/"]);
        assert!(super::above("/").next().is_none());
    }
}
