//! Small files that are written into a layer's root, for programs that look users, groups and
//! hosts up: what the machine's own files say is none of a layer's business.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::ident::Name;
use crate::policy::plan::{LayerPlan, Program};

/// A file that no file system but the layer's root has. The layer can read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GeneratedFile {
    /// Absolute path, where the layer sees it.
    pub path: String,
    /// Its permission bits. It belongs to root.
    pub mode: u32,
    /// What is in it.
    pub content: Content,
}

/// What is in a generated file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// This text.
    Text(String),
    /// The layer's own user, as `passwd(5)` has it: its number is known when it starts.
    Users,
    /// Its group (`group(5)`).
    Groups,
}

/// Whom a layer finds itself to be.
#[derive(Clone, Debug)]
pub(super) struct Account<'a> {
    /// The layer's name, which is also its user's and its group's.
    pub(super) name: &'a Name,
    /// The user's number.
    pub(super) uid: u32,
    /// The group's.
    pub(super) gid: u32,
}

/// What programs expect of a system: who they are, and where `localhost` is.
///
/// `hosts` are names besides, each with its address.
pub fn of_system(layer: &LayerPlan, hosts: &[(IpAddr, String)]) -> Vec<GeneratedFile> {
    if !matches!(layer.program, Program::Exec(_)) || !layer.view.has_system() {
        return Vec::new();
    }
    let file = |path: &str, content| GeneratedFile { path: path.to_owned(), mode: 0o444, content };
    vec![
        file("/etc/passwd", Content::Users),
        file("/etc/group", Content::Groups),
        file("/etc/hosts", Content::Text(self::hosts(&layer.name, hosts))),
        file("/etc/nsswitch.conf", Content::Text(SWITCH.to_owned())),
    ]
}

/// Nothing but files is asked (`nsswitch.conf(5)`).
const SWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files\n\
                      services: files\nprotocols: files\n";

/// `hosts(5)`: this host by its names, its own being the layer's, and `others`.
fn hosts(layer: &Name, others: &[(IpAddr, String)]) -> String {
    let here = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
    let mut text = String::new();
    for address in here {
        let _ = writeln!(text, "{address} localhost {layer}");
    }
    for (address, name) in others {
        let _ = writeln!(text, "{address} {name}");
    }
    text
}

impl Content {
    /// The bytes for the layer that is `account`.
    pub(super) fn text(&self, account: &Account<'_>) -> String {
        let Account { name: own, uid, gid } = *account;
        let (own, others): (_, [(u32, _); 2]) = match self {
            Self::Text(text) => return text.clone(),
            Self::Users => (
                (uid, format!("{own}:x:{uid}:{gid}:{own}:/:{NO_LOGIN}")),
                KNOWN.map(|(name, number, _)| {
                    (number, format!("{name}:x:{number}:{number}:{name}:/:{NO_LOGIN}"))
                }),
            ),
            Self::Groups => (
                (gid, format!("{own}:x:{gid}:")),
                KNOWN.map(|(_, number, group)| (number, format!("{group}:x:{number}:"))),
            ),
        };
        let others = others.into_iter().filter(|(number, line)| {
            *number != own.0 && line.split(':').next() != Some(account.name.as_str())
        });
        let mut text = own.1;
        text.push('\n');
        for (_, line) in others {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

/// Whoever looks at a file's owner finds these two, with their number and group.
const KNOWN: [(&str, u32, &str); 2] = [("root", 0, "root"), ("nobody", 65534, "nogroup")];

const NO_LOGIN: &str = "/usr/sbin/nologin";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confine::receipt::tests::layer;
    use crate::policy::plan::View;

    fn text(content: &Content, name: &str, uid: u32) -> String {
        let name = Name::new(name).unwrap();
        content.text(&Account { name: &name, uid, gid: uid })
    }

    #[test]
    fn a_layer_is_the_first_of_its_users() {
        let users = text(&Content::Users, "db", 1000);
        let nologin = "/usr/sbin/nologin";
        assert_eq!(
            users,
            format!(
                "db:x:1000:1000:db:/:{nologin}\nroot:x:0:0:root:/:{nologin}\n\
                 nobody:x:65534:65534:nobody:/:{nologin}\n"
            )
        );
        assert_eq!(text(&Content::Groups, "db", 7), "db:x:7:\nroot:x:0:\nnogroup:x:65534:\n");
    }

    #[test]
    fn no_number_and_no_name_is_there_twice() {
        assert_eq!(text(&Content::Groups, "db", 0), "db:x:0:\nnogroup:x:65534:\n");
        assert_eq!(text(&Content::Groups, "nogroup", 7), "nogroup:x:7:\nroot:x:0:\n");
        assert_eq!(text(&Content::Groups, "root", 65534), "root:x:65534:\n");
    }

    #[test]
    fn only_foreign_programs_that_see_the_system_get_them() {
        let mut layer = layer();
        assert_eq!(of_system(&layer, &[]), []);
        layer.program = Program::Exec(vec!["/usr/bin/id".into()]);
        layer.view = View::system();
        let address = IpAddr::from([192, 0, 2, 7]);
        let files = of_system(&layer, &[(address, "db.example.org".into())]);
        let hosts = files.iter().find(|file| file.path == "/etc/hosts").unwrap();
        let Content::Text(text) = &hosts.content else { panic!("{hosts:?}") };
        let name = &layer.name;
        assert_eq!(
            *text,
            format!("127.0.0.1 localhost {name}\n::1 localhost {name}\n192.0.2.7 db.example.org\n")
        );
    }
}
