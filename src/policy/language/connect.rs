//! Addresses to connect to: `"tcp:example.org:443"`, or with what the proxy puts into requests.

use super::kinds::{Path, Text, address};
use super::{At, Kind, Section, Takes, string, table};
use crate::policy::diagnostic::Diagnostics;
use crate::policy::plan::ConnectAddress;
use crate::policy::tree::Value;
use crate::policy::value;

table! { named CONNECT, ConnectText: "connect", "connect = { NAME = { ... } }", "an address to connect to";
    "An address of an `exec` layer, with a credential that the layer never sees. The program speaks \
     HTTP to `http://HOST:PORT/`; the framework's proxy puts the credential in, and speaks TLS to \
     the server. Without these the address alone will do.";

    address: Target => "`address = \"tcp:api.example.org:443\"`";
        "`tcp:api.example.org:443`, `udp:192.0.2.1:53`, `unix:/run/a.sock`, or \
         `tcp:*.example.org:443`. With `inject` it is one host by its name.";
        "A helper connects.";
    inject: Text, or "none";
        "The name of a header field that is put into each request, in place of whatever the layer \
         says there: `\"authorization\"`.";
        "The helper `cofferdam-proxy`.";
    prefix: Text, or "nothing";
        "What stands before the secret in the field: `\"Bearer \"`.";
        "";
    secret: Path, or "none";
        "The file that holds the secret. Goes with `inject`. Only the helper reads it, anew for \
         each of its lives.";
        "Opened by the supervisor; its owner and mode may keep it from everybody else.";
    authorities: Path, or "those of the system";
        "Certificates of the authorities that may have signed the server's, in PEM. Goes with \
         `inject`.";
        "";
}

/// Where a connection goes.
pub(crate) struct Target;

impl Takes for Target {
    type Text = Option<At<ConnectAddress>>;
    const KIND: Kind = Kind::Target;

    fn read(section: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
        address(&section.string(key, out)?, value::connect_address, out)
    }
}

/// Addresses to connect to.
pub(crate) struct Targets;

impl Takes for Targets {
    type Text = Vec<ConnectText>;
    const KIND: Kind = Kind::Names(&Kind::Either(&Kind::Target, &Kind::Table(&CONNECT)));

    fn read(layer: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
        let mut targets = Vec::new();
        for (name, node) in layer.entries(key, out) {
            let target: ConnectText = if let Value::Table(_) = node.value {
                let Some(section) = Section::open(node, &CONNECT, out) else { continue };
                section.called(name).read(out)
            } else {
                let text = string(node, &name.value, out);
                let address = text.and_then(|text| address(&text, value::connect_address, out));
                let (inject, prefix, secret, authorities) = (None, None, None, None);
                ConnectText { name, address, inject, prefix, secret, authorities }
            };
            targets.extend(target.address.is_some().then_some(target));
        }
        targets
    }
}
