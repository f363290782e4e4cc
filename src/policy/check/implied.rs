//! The system calls that a facility can't be used without, and that it therefore brings along; and
//! those that are harmless in what a layer is.

use super::directory;
use crate::policy::document::{At, Document, FileText, LayerText, RegionText};
use crate::policy::plan::{ConnectAddress, FileRight, ListenAddress, Protection, Runtime};
use crate::policy::syscall::{self, Item};

/// What `layer` and its facilities grant it besides its own `syscalls`.
pub(super) fn items(layer: &LayerText, document: &Document) -> Vec<Item> {
    let me = layer.name.value.as_str();
    let is = |end: &Option<At<String>>| end.as_ref().is_some_and(|end| end.value == me);
    let among = |list: &Option<At<Vec<At<String>>>>| {
        list.iter().flat_map(|list| &list.value).any(|one| one.value == me)
    };
    let is_path = |address: &ListenAddress| matches!(address, ListenAddress::Unix(_));
    let is_datagram = |address: &ListenAddress| matches!(address, ListenAddress::Udp(_));
    let addresses = layer.listen.iter().flat_map(|it| &it.address).map(|it| &it.value);
    let streams = addresses.clone().any(|address| !is_datagram(address));
    let datagrams = addresses.clone().any(is_datagram);
    let is_foreign = layer.exec.is_some();
    let mut bound = layer.listen.iter().filter(|it| is_foreign && it.is_bound());
    let binds_path = bound.clone().flat_map(|it| &it.address).any(|it| is_path(&it.value));
    let mut dialled =
        layer.connect.iter().filter(|_| is_foreign).flat_map(|it| &it.address).map(|it| &it.value);
    let dials_path = dialled.clone().any(|it| matches!(it, ConnectAddress::Unix(_)));
    let changes = |file| rights(file, me).any(|right| CHANGES.contains(&right));
    let owns = directory::has_any(layer);
    let direct = |right| {
        let opens = |file: &&FileText| !file.is_brokered(me);
        // In a directory of its own it has all of them.
        owns || document
            .files
            .iter()
            .filter(opens)
            .any(|file| rights(file, me).any(|held| held == right))
    };
    let maps = |region: &RegionText| {
        region.grant.iter().flat_map(|grant| &grant.value).any(|(one, _)| one.value == me)
    };
    let groups = [
        ("@queue-send", document.queues.iter().any(|queue| among(&queue.send))),
        ("@queue-receive", document.queues.iter().any(|queue| among(&queue.receive))),
        ("@fifo-read", document.fifos.iter().any(|fifo| is(&fifo.to))),
        ("@region-wait", layer.exec.is_none() && document.regions.iter().any(maps)),
        ("@signal-receive", document.signals.iter().any(|signal| is(&signal.to))),
        ("@socket-accept", streams),
        ("@socket-datagram", datagrams),
        ("@socket-connect", !layer.connect.is_empty()),
        ("@socket-bind", bound.next().is_some()),
        ("@socket-dial", dialled.any(|it| !matches!(it, ConnectAddress::Unix(_)))),
        ("@socket-path", binds_path || dials_path),
        ("@thread", layer.exec.is_none() && layer.runtime() == Runtime::MultiThread),
        ("@file-durable", layer.exec.is_none() && document.files.iter().any(changes)),
        ("@file-mkdir", direct(FileRight::Mkdir)),
        ("@file-rmdir", direct(FileRight::Rmdir)),
        ("@file-move", direct(FileRight::Move)),
        ("@file-symlink", direct(FileRight::Symlink)),
        ("@file-socket", direct(FileRight::Socket)),
        ("@file-fifo", direct(FileRight::Fifo)),
        ("@same-user", layer.exec.is_some()),
        ("@execmem", layer.execmem()),
        ("@signal-inside", layer.exec.is_some() && has_own_pids(layer)),
    ];
    // The groups are part of this program, so each is there.
    groups
        .iter()
        .filter(|(_, held)| *held)
        .flat_map(|(name, _)| syscall::parse_item(name))
        .collect()
}

/// Whether `layer` may append to some file that it may not write otherwise.
pub(super) fn appends(layer: &LayerText, document: &Document) -> bool {
    document.files.iter().any(|file| {
        let holds = |wanted| rights(file, &layer.name.value).any(|right| right == wanted);
        holds(FileRight::Append) && !holds(FileRight::Write)
    })
}

/// Whether the layer sees no process but its own, or doesn't start.
fn has_own_pids(layer: &LayerText) -> bool {
    let pids = Protection::NamespacePid.name();
    let covers =
        |name: &str| pids == name || pids.strip_prefix(name).is_some_and(|it| it.starts_with('.'));
    !layer.optional.iter().any(|it| covers(&it.value))
}

const CHANGES: [FileRight; 2] = [FileRight::Write, FileRight::Append];

fn rights(file: &FileText, layer: &str) -> impl Iterator<Item = FileRight> {
    let grants = file.grant.iter().flat_map(|grant| &grant.value);
    grants
        .filter(move |(one, _)| one.value == layer)
        .flat_map(|(_, rights)| rights.value.iter().map(|right| right.value))
}
