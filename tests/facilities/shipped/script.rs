//! A shell script with children.

use std::fs;
use std::process::Command;

use super::{Elsewhere, Shipped, needs, output};
use crate::Test;

pub(crate) const TESTS: &[Test] = &[
    ("shipped::a_script_works_with_its_children", works),
    ("shipped::a_script_of_a_stranger_reaches_nothing_else", strays),
];

/// Sums and an archive of what is in one directory, into another; with as many ways to start
/// programs as fit, and a file that is there next time.
const WORKS: &str = r#"
cd "$1"
find . -type f -print | sort | while read -r file; do sha256sum "$file"; done > "$2/sums.new"
mv "$2/sums.new" "$2/sums"
tar -cf - . | gzip > "$2/all.tar.gz" &
wait $!
for part in a b c; do (seq 1000 | sed "s/^/$part/" > "$2/part.$part") & done
wait
cat "$2"/part.* | awk 'END { print NR, "lines" }'
sort <<HERE > "$2/sorted"
b
a
HERE
times=0; [ -f "$2/times" ] && read -r times < "$2/times"
echo $((times + 1)) > "$2/times"
rm "$2"/part.*; mkdir -p "$2/done"; ln -sf ../sums "$2/done/latest"
echo "run $((times + 1)) is done"
"#;

fn policy() -> Shipped {
    let policy = Shipped::new("shell-script").var("script", "DIR/script");
    policy.var("input", "DIR/input").var("output", "DIR/output")
}

fn prepare(directory: &std::path::Path, script: &str) {
    fs::write(directory.join("script"), script).unwrap();
    fs::create_dir_all(directory.join("input/deep")).unwrap();
    fs::write(directory.join("input/one"), "one").unwrap();
    fs::write(directory.join("input/deep/two"), "two").unwrap();
}

fn works() {
    let mut daemon = policy().start(|directory| prepare(directory, WORKS));
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    for line in ["3000 lines", "run 1 is done", "script/0.g1 ended with exit code 0"] {
        assert_eq!(daemon.count(line), 1, "{daemon}");
    }
    let sums = fs::read_to_string(daemon.directory().join("output/done/latest")).unwrap();
    assert!(sums.contains("  ./deep/two\n") && sums.contains("  ./one\n"), "{sums}");
    let archive = daemon.directory().join("output/all.tar.gz");
    assert!(output(Command::new("tar").arg("-tzf").arg(archive)).contains("./deep/two"));
    let mut daemon = policy().start_in(daemon.take_directory());
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    assert_eq!(daemon.count("run 2 is done"), 1, "{daemon}");
}

/// Each on its own, so that one that is ended doesn't hide the next.
const STRAYS: &str = r#"
try() { ("$@") > "$OUT/said" 2>&1 && echo "worked: $*" || true; }
OUT=$2
try cat "HERE/secret"
try cat /etc/shadow
try sh -c 'echo x > HERE/input/trace'
try rm HERE/input/one
try chmod 777 HERE/input/one
try curl -sS --max-time 5 http://127.0.0.1:PORT/
try python3 -c 'import socket; socket.create_connection(("127.0.0.1", PORT))'
try mount -t tmpfs none /tmp
try unshare -r true
# In its own /tmp it may, where that is.
sh -c 'echo x > HERE/trace' || true
cp /bin/true "$2/true"; chmod 755 "$2/true"
try "$2/true"
echo "all of it is tried"
"#;

fn strays() {
    needs("/usr/bin/curl");
    let elsewhere = Elsewhere::new();
    let mut daemon = policy().start(|directory| {
        let here = directory.display().to_string();
        let port = elsewhere.address().port().to_string();
        prepare(directory, &STRAYS.replace("HERE", &here).replace("PORT", &port));
    });
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    assert_eq!(daemon.count("all of it is tried"), 1, "{daemon}");
    assert_eq!(daemon.count("worked: "), 0, "{daemon}");
    elsewhere.is_untouched();
    for trace in ["trace", "input/trace"] {
        assert!(!daemon.directory().join(trace).exists(), "{trace}");
    }
    assert_eq!(fs::read_to_string(daemon.directory().join("input/one")).unwrap(), "one");
}
