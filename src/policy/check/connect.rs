//! Checking `connect`.

use std::path::Path;

use super::name;
use crate::policy::code::Code;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::document::{At, ConnectText, Document, LayerText};
use crate::policy::plan::{ConnectAddress, ConnectPlan, InjectPlan};
use crate::policy::value;

/// Fields that say where a request goes, how long it is, or who the connection belongs to: who
/// could set them would lead a request elsewhere, or hide a second one in it (RFC 9110, 9112).
const FRAMING: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// The addresses to which a layer is connected, by name.
pub(super) fn all(
    layer: &LayerText,
    document: &Document,
    out: &mut Diagnostics,
) -> Vec<ConnectPlan> {
    let mut sockets = Vec::new();
    for text in &layer.connect {
        if let Some(twin) = layer.listen.iter().find(|other| other.name.value == text.name.value) {
            let message = format!("two sockets are called `{}`", text.name.value.escape_debug());
            out.error(Code::GrantTwice, &text.name.span, message)
                .label("the layer asks for its sockets by name")
                .also(&twin.name.span, "a listening one");
        }
        let Some(address) = &text.address else { continue };
        if !proxied_for_foreign(layer, text, address, out) {
            continue;
        }
        let inject = inject(text, address, out);
        for secret in text.secret.iter().filter(|_| inject.is_some()) {
            unseen(layer, secret, document, out);
        }
        if let Some(name) = name(&text.name, "a socket", out) {
            sockets.push(ConnectPlan { name, address: address.value.clone(), inject });
        }
    }
    sockets.sort_by(|a, b| a.name.cmp(&b.name));
    sockets
}

/// Whether what takes the proxy is of a layer that has one: only programs read an environment.
fn proxied_for_foreign(
    layer: &LayerText,
    text: &ConnectText,
    address: &At<ConnectAddress>,
    out: &mut Diagnostics,
) -> bool {
    let Some(run) = &layer.run else { return true };
    let (span, what) = match (&address.value, &text.inject) {
        (ConnectAddress::Wild { .. }, _) => (&address.span, "a `*` in an address"),
        (_, Some(header)) => (&header.span, "`inject`"),
        _ => return true,
    };
    out.error(Code::Contradiction, span, format!("{what}, for a `run` layer"))
        .label("the proxy is for programs that know of proxies")
        .also(&run.span, "the layer is a function of the daemon's program")
        .help("list each host by its name: the function connects by `layer.connect(\"NAME\")`");
    false
}

/// Tells a secret that lies where the layer sees it.
fn unseen(layer: &LayerText, secret: &At<String>, document: &Document, out: &mut Diagnostics) {
    for file in &document.files {
        let grants = file.grant.iter().flat_map(|grant| &grant.value);
        let is_own = grants.into_iter().any(|(one, _)| one.value == layer.name.value);
        let path = file.path.as_ref().filter(|_| is_own);
        if let Some(path) = path.filter(|it| Path::new(&secret.value).starts_with(&it.value)) {
            out.error(Code::Contradiction, &secret.span, "a secret within the layer's reach")
                .label("the layer is never to see it")
                .also(&path.span, "it lies here, which the layer is granted")
                .help("keep it elsewhere");
        }
    }
}

/// What is put into requests.
fn inject(
    text: &ConnectText,
    address: &At<ConnectAddress>,
    out: &mut Diagnostics,
) -> Option<InjectPlan> {
    let Some(header) = &text.inject else {
        for other in [&text.prefix, &text.secret, &text.authorities].into_iter().flatten() {
            out.error(Code::Contradiction, &other.span, "a part of a credential, and no `inject`")
                .label("this has no effect")
                .help("`inject = \"authorization\"` names the field that it belongs into");
        }
        return None;
    };
    let is_name = |host: &str| host.parse::<std::net::IpAddr>().is_err();
    if !matches!(&address.value, ConnectAddress::Tcp { host, .. } if is_name(host)) {
        out.error(Code::Contradiction, &header.span, "a credential for no host in particular")
            .label("it would go to whoever answers there")
            .also(&address.span, "this is not one host by its name")
            .help("write the host's name, as in `tcp:api.example.org:443`");
        return None;
    }
    let Some(secret) = &text.secret else {
        out.error(Code::Missing, &header.span, "`inject` without `secret`")
            .label("nothing would be put in")
            .help("name the file that holds the secret: `secret = \"/etc/NAME/key\"`");
        return None;
    };
    let mut sound = true;
    for path in [Some(secret), text.authorities.as_ref()].into_iter().flatten() {
        if let Err(why) = value::path(&path.value) {
            let message = format!("`{}` is not a path", path.value.escape_debug());
            out.error(Code::BadPath, &path.span, message).label(why);
            sound = false;
        }
    }
    let name = header.value.to_ascii_lowercase();
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_token) {
        let message = format!("`{}` is not the name of a field", header.value.escape_debug());
        out.error(Code::Contradiction, &header.span, message)
            .label("letters, digits and `-`, at most 64")
            .help("as in `inject = \"authorization\"`");
        sound = false;
    } else if FRAMING.contains(&name.as_str()) {
        out.error(Code::Contradiction, &header.span, format!("`{name}` holds no credential"))
            .label("it says where a request goes or ends, which is the proxy's to say");
        sound = false;
    }
    let prefix = text.prefix.as_ref();
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte);
    if let Some(prefix) = prefix.filter(|it| it.value.len() > 64 || !it.value.bytes().all(is_plain))
    {
        out.error(Code::Contradiction, &prefix.span, "a prefix that no field can have")
            .label("at most 64 printable ASCII characters");
        sound = false;
    }
    sound.then(|| InjectPlan {
        header: name,
        prefix: prefix.map(|it| it.value.clone()).unwrap_or_default(),
        file: secret.value.clone(),
        authorities: text.authorities.as_ref().map(|it| it.value.clone()),
    })
}
