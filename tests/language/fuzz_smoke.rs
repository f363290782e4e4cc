//! The fuzz targets without cargo-fuzz: their seeds, and thousands of changes of them.
//!
//! Longer runs are `cargo fuzz run`'s business; see `fuzz/src/lib.rs`.

#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::{Index, select};

/// The files of a directory of this project.
fn files(directory: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let entries = std::fs::read_dir(&directory).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    assert!(!files.is_empty(), "{}", directory.display());
    files
}

fn read(directories: &[&str]) -> Vec<Vec<u8>> {
    let all = directories.iter().flat_map(|directory| files(directory));
    all.map(|path| std::fs::read(path).unwrap()).collect()
}

fn policies() -> Vec<Vec<u8>> {
    read(&["fuzz/corpus/policy", "policies", "tests/policies/bad"])
}

/// Bytes that decoders trip over.
const SPLICES: &[&[u8]] = &[
    b"",
    b"\0",
    b"\n",
    b"\"",
    b"=",
    b"[",
    b"]]",
    b"{",
    b"}",
    b"#",
    b"'''",
    b"${",
    b"${v}",
    b"-1",
    b"_",
    b"0x",
    b"1e999",
    b"99999999999999999999",
    b"\xff",
    b"\x1b]0;x\x07",
    b"\xe2\x80\xae",
    b"[[never]]\n",
    b"[layer.b]\n",
    b"\xff\xff\xff\xff",
    b"\x01\0\0\0\0\0\0\0",
    b"\x06\0\0\0",
];

/// A seed with some of its bytes replaced, pieces put in, and perhaps cut short.
fn changed(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<Index>(), 0_usize..24, select(SPLICES), any::<Option<u8>>());
    (select(seeds), prop::collection::vec(change, 0..6), any::<Option<Index>>()).prop_map(
        |(mut bytes, changes, end)| {
            for (at, cut, splice, byte) in changes {
                let start = at.index(bytes.len() + 1);
                let stop = (start + cut).min(bytes.len());
                match byte {
                    Some(byte) if start < bytes.len() => bytes[start] = byte,
                    _ => drop(bytes.splice(start..stop, splice.iter().copied())),
                }
            }
            if let Some(end) = end {
                bytes.truncate(end.index(bytes.len() + 1));
            }
            bytes
        },
    )
}

#[test]
fn seeds_of_policies() {
    for bytes in policies() {
        fuzz::policy(&bytes);
    }
}

#[test]
fn seeds_of_records() {
    for bytes in read(&["fuzz/corpus/record"]) {
        fuzz::record(&bytes);
    }
}

#[test]
fn seeds_of_control_messages() {
    for bytes in read(&["fuzz/corpus/control"]) {
        fuzz::control(&bytes);
    }
}

/// Without it the other tests could pass by refusing everything.
#[test]
fn some_seeds_are_accepted() {
    let accepted = policies()
        .iter()
        .filter(|bytes| cofferdam::policy::check("seed.toml", bytes).plan.is_some())
        .count();
    assert!(accepted > 3, "{accepted}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_policies(bytes in changed(policies())) {
        fuzz::policy(&bytes);
    }

    #[test]
    fn changed_records(bytes in changed(read(&["fuzz/corpus/record"]))) {
        fuzz::record(&bytes);
    }

    #[test]
    fn changed_control_messages(bytes in changed(read(&["fuzz/corpus/control"]))) {
        fuzz::control(&bytes);
    }
}
