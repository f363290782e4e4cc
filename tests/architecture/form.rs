//! The form of what one program hands over to the next (`FORM`, docs/lives.md): whoever changes a type of it
//! raises the number, or a program would take over that reads something else than was written.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use blake2::{Blake2s256, Digest};

use crate::{code, sources};

/// Where the types of it are, beneath `src`: the state, an assembly, and what helpers and layers say.
const TYPES: [&str; 13] = [
    "confine/cgroup",
    "confine/filter",
    "ident",
    "layer/logger/orders",
    "layer/slice",
    "policy/plan",
    "prepare/assembly",
    "prepare/image",
    "prepare/mod.rs",
    "prepare/own",
    "prepare/relations",
    "prepare/upgrade",
    "wire",
];

/// The form, and the digest of the types that it is the form of.
const RECORD: &str = "tests/architecture/form.txt";

#[test]
fn another_shape_is_another_form() {
    let mut types = Vec::new();
    let mut form = None;
    for (path, text) in sources() {
        let name = path.to_str().unwrap();
        if TYPES.iter().any(|it| name.starts_with(it)) {
            let code = code(&text);
            types.extend(definitions(&code));
            let number =
                |line: &str| line.split("FORM: u32 = ").nth(1)?.strip_suffix(';')?.parse().ok();
            form = form.or_else(|| code.lines().find_map(number));
        }
    }
    types.sort();
    let form: u32 = form.expect("no FORM was found: does this test still read it?");
    assert!(types.len() > 100, "only {} types were found", types.len());
    let mut digest = String::new();
    for byte in Blake2s256::digest(types.concat()) {
        let _ = write!(digest, "{byte:02x}");
    }
    let record = Path::new(env!("CARGO_MANIFEST_DIR")).join(RECORD);
    let recorded = fs::read_to_string(&record).unwrap_or_default();
    let (was, of) = recorded.trim().split_once(' ').unwrap_or(("0", ""));
    let was: u32 = was.parse().unwrap();
    assert!(
        digest == of || form > was,
        "what a program hands over in an upgrade has another shape, and still form {was}: raise `FORM` in \
         src/prepare/upgrade/state.rs, then run with BLESS=1"
    );
    if std::env::var_os("BLESS").is_some() {
        fs::write(&record, format!("{form} {digest}\n")).unwrap();
    } else {
        assert!(digest == of && form == was, "{RECORD} is old: run with BLESS=1");
    }
}

/// The structs and enums that are written or read, without what stands around them.
fn definitions(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = code.lines();
    let mut is_written = false;
    while let Some(line) = lines.next() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_type = words.iter().take(2).any(|word| matches!(*word, "struct" | "enum"));
        is_written |= line.contains("derive(") && line.contains("Serialize");
        if !line.starts_with(' ') && is_type && (is_written || line.contains("Layer")) {
            let mut text = words.join(" ");
            if line.ends_with('{') {
                let rest = lines.by_ref().take_while(|line| *line != "}");
                rest.for_each(|line| text.extend(line.split_whitespace()));
            }
            found.push(text);
        }
        is_written &= line.starts_with('#') || line.trim().is_empty();
    }
    found
}
