//! Reading `[file.NAME]`.

use super::keys;
use super::section::{Section, not_twice, strings, word};
use super::{At, FileText, Grant};
use crate::policy::code::Code;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::plan::FileRight;
use crate::policy::tree::Node;

const RIGHTS: [(&str, FileRight); 8] = [
    ("read", FileRight::Read),
    ("write", FileRight::Write),
    ("truncate", FileRight::Truncate),
    ("create", FileRight::Create),
    ("remove", FileRight::Remove),
    ("list", FileRight::List),
    ("execute", FileRight::Execute),
    ("append", FileRight::Append),
];

pub(super) fn read(name: At<String>, value: &Node, out: &mut Diagnostics) -> Option<FileText> {
    let file = Section::open(value, &keys::FILE, out)?;
    if !file.has("grant") {
        let message = format!("file `{}` is granted to nobody", name.value.escape_debug());
        out.error(Code::Missing, file.span(), message)
            .help("add `grant = { LAYER = [\"read\"] }`, or take the file out");
    }
    Some(FileText {
        path: file.require("path", "`path = \"/an/absolute/path\"`", out),
        grant: file
            .get("grant")
            .map(|value| At { value: grants(&file, out), span: value.span.clone() }),
        deny: file.strings("deny", out).map(|list| list.value).unwrap_or_default(),
        max_open: file.integer("max-open", out),
        because: file.string("because", out),
        name,
    })
}

fn grants(file: &Section<'_>, out: &mut Diagnostics) -> Vec<Grant> {
    let mut grants = Vec::new();
    for (layer, value) in file.entries("grant", out) {
        let Some(list) = strings(value, &layer.value, out) else { continue };
        not_twice(list.value.iter(), out);
        let told = list.value.len();
        let rights: Vec<_> =
            list.value.iter().filter_map(|text| word(text, "`grant`", &RIGHTS, out)).collect();
        if told == 0 {
            let message = format!("`{}` is granted nothing", layer.value.escape_debug());
            out.error(Code::Empty, &list.span, message)
                .label("no rights")
                .help("name the rights, as in `[\"read\"]`, or take the layer out");
        }
        grants.push((layer, At { value: rights, span: list.span }));
    }
    grants
}
