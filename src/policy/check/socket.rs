//! Checking `listen`.

use std::net::SocketAddr;

use super::{name, rate};
use crate::policy::code::Code;
use crate::policy::diagnostic::{Diagnostics, Span};
use crate::policy::document::{At, Document, LayerText, ListenText};
use crate::policy::plan::{ListenAddress, ListenPlan, Pass, PassWord, Rate};

/// As many as the supervisor could ever want to hold open.
const MAX_SOCKETS: usize = 256;
/// As many as a program finds from its third descriptor on.
const MAX_PASSED: usize = (Pass::LAST_FD - Pass::FIRST_FD + 1) as usize;

/// The sockets on which a layer listens, by name.
pub(super) fn listen(layer: &LayerText, out: &mut Diagnostics) -> Vec<ListenPlan> {
    let mut sockets = Vec::new();
    for text in &layer.listen {
        let Some(pass) = pass(layer, text, out) else { continue };
        let (rate, per_source) = limits(layer, text, pass, out);
        let max = super::inetd::max(layer, text, out);
        let Some(address) = &text.address else { continue };
        if let Some(name) = name(&text.name, "a socket", out) {
            let address = address.value.clone();
            sockets.push(ListenPlan { name, address, pass, rate, per_source, max });
        }
    }
    sockets.sort_by(|a, b| a.name.cmp(&b.name));
    numbers(layer, out);
    sockets
}

/// How the layer comes by a socket; `None` if that is told to be wrong.
fn pass(layer: &LayerText, text: &ListenText, out: &mut Diagnostics) -> Option<Pass> {
    let (word, fd) = (text.pass.as_ref(), text.fd.as_ref());
    let written = word.map(|it| &it.span).or(fd.map(|it| &it.span));
    if layer.exec.is_none() {
        let Some(written) = written else { return Some(Pass::Name) };
        let mistake = out.error(Code::Contradiction, written, "a `run` layer asks for its sockets");
        mistake.label("this has no effect");
        if let Some(run) = &layer.run {
            mistake.also(&run.span, "the layer is a function of the daemon's program");
        }
        mistake.help("take it out; its function says `layer.acceptor(\"NAME\")`");
        return None;
    }
    if let (Some(word), Some(fd)) = (word, fd) {
        out.error(Code::Contradiction, &fd.span, "a socket is passed in two ways")
            .label("at this number")
            .also(&word.span, "and so")
            .help("keep one of `pass` and `fd`");
        return None;
    }
    let pass = match (word, fd) {
        (_, Some(fd)) => Pass::Fd(fd.value),
        (Some(word), None) => word.value.into(),
        (None, None) => Pass::Bind,
    };
    Some(pass)
}

/// Limits on the connections of a socket, where there is somebody who keeps them.
fn limits(
    layer: &LayerText,
    text: &ListenText,
    pass: Pass,
    out: &mut Diagnostics,
) -> (Option<Rate>, Option<u32>) {
    let limits =
        (rate::messages(text.rate.as_ref(), out), text.per_source.as_ref().map(|most| most.value));
    let written = text.rate.as_ref().map(|rate| &rate.span);
    let Some(written) = written.or(text.per_source.as_ref().map(|it| &it.span)) else {
        return limits;
    };
    if let Some(At { value: ListenAddress::Udp(_), span }) = text.address.as_ref() {
        out.error(Code::Contradiction, written, "a limit on connections, which UDP has not")
            .label("this has no effect")
            .also(span, "datagrams come here")
            .help("take the limit out");
    } else if let (Some(exec), false) = (&layer.exec, matches!(pass, Pass::Name | Pass::Inetd)) {
        out.error(Code::Contradiction, written, "a foreign program keeps no such limit")
            .label("nobody else counts its connections")
            .also(&exec.span, "it accepts them itself")
            .help("take the limit out");
    }
    limits
}

/// Tells two sockets that a program would find at one number, and more than there are numbers.
fn numbers(layer: &LayerText, out: &mut Diagnostics) {
    let is_listed =
        |it: &&ListenText| it.pass.as_ref().is_some_and(|it| it.value == PassWord::ListenFds);
    let listed: Vec<&ListenText> = layer.listen.iter().filter(is_listed).collect();
    if let (true, Some(last)) = (listed.len() > MAX_PASSED, listed.last()) {
        let message = format!("{} sockets by `LISTEN_FDS`", listed.len());
        out.error(Code::OutOfRange, &last.name.span, message)
            .label(format!("a program finds at most {MAX_PASSED}"));
    }
    let first = usize::from(Pass::FIRST_FD);
    let mut taken: Vec<(usize, &Span)> = Vec::new();
    taken.extend((first..).zip(&listed).map(|(number, it)| (number, &it.name.span)));
    for text in &layer.listen {
        let Some(fd) = &text.fd else { continue };
        let number = usize::from(fd.value);
        match taken.iter().find(|(other, _)| *other == number) {
            Some((_, other)) => {
                out.error(Code::Contradiction, &fd.span, "two sockets at one descriptor")
                    .label("taken already")
                    .also(other, "by this one")
                    .help("`listen-fds` takes the numbers from 3 on: choose a higher one");
            }
            None => taken.push((number, &fd.span)),
        }
    }
}

/// Where the daemon's numbers are served.
pub(super) fn metrics(document: &Document, out: &mut Diagnostics) -> Option<SocketAddr> {
    let listen = document.metrics.as_ref()?.listen.as_ref()?;
    let ListenAddress::Tcp(address) = listen.value else {
        out.error(Code::Contradiction, &listen.span, "metrics are served by HTTP, over TCP")
            .label("this is another kind of address")
            .help("write `listen = \"tcp:127.0.0.1:9464\"`");
        return None;
    };
    Some(address)
}

/// Two sockets on one address: the second `bind` would fail.
pub(super) fn one_address_each(document: &Document, out: &mut Diagnostics) {
    let layers = &document.layers;
    let count: usize = layers.iter().map(|layer| layer.listen.len()).sum();
    let last = layers.iter().flat_map(|layer| &layer.listen).next_back();
    if let (true, Some(last)) = (count > MAX_SOCKETS, last) {
        let message = format!("{count} listening sockets");
        out.error(Code::OutOfRange, &last.name.span, message)
            .label(format!("a policy has at most {MAX_SOCKETS}"));
        return;
    }
    let mut taken: Vec<&At<ListenAddress>> = Vec::new();
    let own = document.metrics.iter().flat_map(|metrics| &metrics.listen);
    let all = layers.iter().flat_map(|layer| &layer.listen).flat_map(|it| &it.address);
    for address in all.chain(own) {
        match taken.iter().find(|other| overlap(&other.value, &address.value)) {
            Some(other) => {
                out.error(Code::AddressTaken, &address.span, "two sockets listen on one address")
                    .label("taken already")
                    .also(&other.span, "by this one")
                    .help("one socket can be read by all instances of its layer");
            }
            None => taken.push(address),
        }
    }
}

/// Whether binding both fails: same port, and the same host or one of them "any host".
fn overlap(a: &ListenAddress, b: &ListenAddress) -> bool {
    match (a, b) {
        (ListenAddress::Tcp(a), ListenAddress::Tcp(b))
        | (ListenAddress::Udp(a), ListenAddress::Udp(b)) => {
            let any = a.ip().is_unspecified() || b.ip().is_unspecified();
            // Port 0 is a fresh one for each.
            a.port() == b.port()
                && a.port() != 0
                && (a.ip() == b.ip() || any && a.is_ipv4() == b.is_ipv4())
        }
        (ListenAddress::Unix(a), ListenAddress::Unix(b)) => a == b,
        _ => false,
    }
}
