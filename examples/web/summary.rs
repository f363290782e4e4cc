//! What the demo prints before it starts: where it listens, how to try it, and what each layer may
//! do, taken from the policy's text.

use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;

use toml::{Table, Value};

/// Prints it all. `authority` is the certificate that curl must be told to trust.
pub(crate) fn print(
    policy: &str,
    address: SocketAddr,
    authority: Option<&Path>,
    site: &str,
) -> Result<(), Box<dyn Error>> {
    let policy: Table = policy.parse()?;
    let port = address.port();
    let mut out = io::stdout().lock();
    writeln!(out, "listening on https://{address}/")?;
    writeln!(out, "serving      {site}")?;
    match authority {
        Some(path) => {
            let path = path.display();
            writeln!(out, "try          curl --cacert {path} https://localhost:{port}/")?;
        }
        None => writeln!(out, "try          curl https://YOUR.HOST:{port}/")?,
    }
    writeln!(out, "stop         Ctrl-C\n")?;
    for (layer, grants) in layers(&policy) {
        let mut name = layer.as_str();
        for grant in grants {
            writeln!(out, "{name:<14}{grant}")?;
            name = "";
        }
    }
    writeln!(out, "\nEverything else is refused.\n")?;
    Ok(out.flush()?)
}

/// Each layer's name and number, and what it may do, a line each.
fn layers(policy: &Table) -> Vec<(String, Vec<String>)> {
    let mut rows = Vec::new();
    for (name, layer) in section(policy, "layer") {
        let copies = layer.get("instances").and_then(Value::as_integer).unwrap_or(1);
        let title = if copies == 1 { name.clone() } else { format!("{name} x{copies}") };
        let listens = layer.get("listen").and_then(Value::as_table).into_iter().flatten();
        let mut grants: Vec<String> = listens
            .map(|(_, address)| format!("accepts connections on {}", text(address)))
            .collect();
        for (_, file) in section(policy, "file") {
            if let Some(rights) = file.get("grant").and_then(|grant| grant.get(name)) {
                let path = file.get("path").map_or("", text);
                grants.push(format!("{} {path}", list(rights)));
            }
        }
        for (channel, ends) in section(policy, "channel") {
            let end = |end| ends.get(end).map_or("", text);
            let methods = ends.get("methods").and_then(Value::as_table);
            let methods: Vec<_> =
                methods.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            let methods = if methods.is_empty() { channel.clone() } else { methods.join(", ") };
            if end("from") == name {
                grants.push(format!("asks {}: {methods}", end("to")));
            } else if end("to") == name {
                grants.push(format!("answers {}: {methods}", end("from")));
            }
        }
        grants.push(format!(
            "system calls: {}",
            layer.get("syscalls").map_or_else(String::new, list)
        ));
        rows.push((title, grants));
    }
    rows
}

fn section<'a>(policy: &'a Table, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    policy.get(name).and_then(Value::as_table).into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn list(value: &Value) -> String {
    value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(", ")
}
