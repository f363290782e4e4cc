//! `cofferdam check` as a person runs it, and the files that it is given.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cofferdam::daemon::policy_file::{Defect, PolicyFileError, inspect, read};
use cofferdam::policy::MAX_SIZE;

const GOOD: &str = "cofferdam = 1\nname = \"a\"\n[layer.b]\nrun = \"b\"\n";
const BAD: &str = "cofferdam = 1\nname = \"a\"\n[layer.b]\nrnu = \"b\"\n";

fn check(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cofferdam")).arg("check").args(arguments).output().unwrap()
}

/// A directory in which nobody else writes, with `name` holding `text` in it.
fn place(name: &str, text: &str) -> (tempfile::TempDir, String) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join(name);
    fs::write(&path, text).unwrap();
    mode(&path, 0o600);
    (place, path.to_str().unwrap().to_owned())
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_fine_policy_is_one_line() {
    let (_place, path) = place("a.toml", GOOD);
    let output = check(&[&path]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    let line = text(&output.stdout);
    let id = line.strip_prefix("ok: 1 layer, 0 channels, id ").unwrap().trim_end();
    assert!(id.len() == 12 && id.chars().all(|c| c.is_ascii_hexdigit()), "{line}");
}

#[test]
fn several_policies_are_told_apart_and_the_worst_decides() {
    let (_place, good) = place("good.toml", GOOD);
    let (_other, bad) = place("bad.toml", BAD);
    let output = check(&[&good, &bad]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).starts_with(&format!("{good}: ok: ")), "{output:?}");
    assert!(text(&output.stderr).contains("bad.toml:4:1"), "{output:?}");
    let output = check(&[&good, &bad, "/nowhere/at/all.toml"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("No such file"), "{output:?}");
}

#[test]
fn wrong_usage_is_2() {
    assert_eq!(check(&[]).status.code(), Some(2));
    assert_eq!(check(&["--format", "yaml", "a.toml"]).status.code(), Some(2));
}

#[test]
fn warnings_count_when_asked() {
    let policy = format!("{GOOD}[vars]\nunused = \"x\"\n");
    let (_place, path) = place("a.toml", &policy);
    let output = check(&[&path]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).contains("warning[E0123]"), "{output:?}");
    assert!(text(&output.stdout).starts_with("ok: 1 layer, 0 channels"), "{output:?}");
    assert_eq!(check(&[&path, "--deny-warnings"]).status.code(), Some(1));
}

#[test]
fn a_policy_is_checked_with_its_files_variables_and_ceiling() {
    let policy = format!(
        "include = [\"base.toml\"]\n{GOOD}[vars]\nroot = \"/srv\"\n[file.f]\n\
         path = \"${{root}}/f\"\ngrant = {{ b = [\"read\"], c = [\"read\"] }}\n"
    );
    let (place, path) = place("a.toml", &policy);
    let beside = |name: &str, text: &str| {
        let path = place.path().join(name);
        fs::write(&path, text).unwrap();
        mode(&path, 0o600);
        path.to_str().unwrap().to_owned()
    };
    assert_eq!(check(&[&path]).status.code(), Some(1));
    let base = beside("base.toml", "cofferdam = 1\n[layer.c]\nrun = \"c\"\n");
    let output = check(&[&path]);
    assert_eq!(output.status.code(), Some(0), "{}", text_of(&output));
    assert!(text(&output.stdout).starts_with("ok: 2 layers"), "{output:?}");
    mode(Path::new(&base), 0o666);
    assert!(text_of(&check(&[&path])).contains("base.toml has mode 0666"));

    let ceiling = beside("ceiling", "cofferdam = 1\n[ceiling]\npaths = [\"/srv/*\"]\n");
    assert_eq!(check(&[&path, "--ceiling", &ceiling]).status.code(), Some(0));
    let other = ["--ceiling", &ceiling, "--var", "root=/var"];
    let output = check(&[&[path.as_str()], &other[..]].concat());
    assert_eq!(output.status.code(), Some(1));
    let said = text_of(&output);
    assert!(said.contains("`/var/f` is above the ceiling") && said.contains("ceiling:3"), "{said}");
    assert_eq!(check(&[&path, "--var", "no=1"]).status.code(), Some(1));
    assert_eq!(check(&[&path, "--var", "root"]).status.code(), Some(2));
    assert_eq!(check(&[&path, "--ceiling", "/nowhere"]).status.code(), Some(3));
}

#[test]
fn what_is_not_built_does_not_start() {
    let policy = format!(
        "{GOOD}[layer.c]\nrun = \"c\"\n[channel.w]\nfrom = \"b\"\nto = \"c\"\ntransport = \"ring\"\n"
    );
    let (_place, path) = place("a.toml", &policy);
    assert_eq!(check(&[&path]).status.code(), Some(0));
    let output = Command::new(env!("CARGO_BIN_EXE_cofferdam")).args(["run", &path]).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text_of(&output));
    let said = text_of(&output);
    assert!(said.contains("[channel.w] `transport`: the ring is not built yet"), "{said}");
}

fn text_of(output: &Output) -> &str {
    text(&output.stderr)
}

#[test]
fn json_is_for_programs() {
    let (_place, good) = place("good.toml", GOOD);
    let (_other, bad) = place("bad.toml", BAD);
    let output = check(&["--format", "json", &good, &bad, "/nowhere.toml"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(text(&output.stderr), "");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], false);
    let policies = &report["policies"];
    assert_eq!(policies[0]["ok"], true);
    assert_eq!(policies[0]["layers"], 1);
    let mistake = &policies[1]["diagnostics"][0];
    assert_eq!(mistake["code"], "E0107");
    assert_eq!(
        (&mistake["labels"][0]["line"], &mistake["labels"][0]["column"]),
        (&4.into(), &1.into())
    );
    assert!(policies[2]["error"].as_str().unwrap().contains("/nowhere.toml"));
}

#[test]
fn an_unsafe_file_is_checked_but_not_run() {
    let (_place, path) = place("a.toml", GOOD);
    mode(Path::new(&path), 0o666);
    let output = check(&[&path]);
    assert_eq!(output.status.code(), Some(0));
    let said = text(&output.stderr);
    assert!(said.contains("mode 0666") && said.contains("chmod go-w"), "{said}");
    assert_eq!(check(&[&path, "--deny-warnings"]).status.code(), Some(1));
    assert!(matches!(read(Path::new(&path)), Err(PolicyFileError::Unsafe { .. })));
}

#[test]
fn what_is_read_is_what_was_written() {
    let (place, path) = place("a.toml", GOOD);
    assert_eq!(read(Path::new(&path)).unwrap(), GOOD.as_bytes());
    // Also through a link, a `..` and from the working directory.
    let link = place.path().join("link");
    symlink(&path, &link).unwrap();
    assert_eq!(read(&link).unwrap(), GOOD.as_bytes());
    fs::create_dir(place.path().join("sub")).unwrap();
    mode(&place.path().join("sub"), 0o700);
    symlink("../a.toml", place.path().join("sub/link")).unwrap();
    assert_eq!(read(&place.path().join("sub/../sub/link")).unwrap(), GOOD.as_bytes());
    // All tests of this program share that one, so that nobody changes it.
    let up =
        std::env::current_dir().unwrap().components().skip(1).map(|_| "..").collect::<PathBuf>();
    let from_here = up.join(Path::new(&path).strip_prefix("/").unwrap());
    assert_eq!(read(&from_here).unwrap(), GOOD.as_bytes());
}

#[test]
fn writable_files_and_directories_are_defects() {
    for (file, directory) in [(0o620, 0o700), (0o602, 0o700), (0o600, 0o770), (0o600, 0o707)] {
        let (place, path) = place("a.toml", GOOD);
        mode(Path::new(&path), file);
        mode(place.path(), directory);
        let defects = inspect(Path::new(&path)).unwrap().defects;
        let [Defect::Writable { path: which, mode }] = defects.as_slice() else {
            panic!("{file:o} in {directory:o}: {defects:?}");
        };
        let (wanted, bits) =
            if file == 0o600 { (place.path(), directory) } else { (Path::new(&path), file) };
        assert_eq!((which.as_path(), *mode), (wanted, bits));
    }
    // Everybody writes to a sticky directory, but renames only what is theirs.
    let (place, path) = place("a.toml", GOOD);
    mode(place.path(), 0o1777);
    assert_eq!(inspect(Path::new(&path)).unwrap().defects, []);
}

#[test]
fn what_belongs_to_others_is_a_defect() {
    if !rustix::process::geteuid().is_root() {
        // Only root can give a file away.
        return;
    }
    let other = 4242;
    let (place, path) = place("a.toml", GOOD);
    let link = place.path().join("link");
    symlink(&path, &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(other), None).unwrap();
    let defects = inspect(&link).unwrap().defects;
    assert_eq!(defects, [Defect::Owner { path: link.clone(), uid: other, link: true }]);
    std::os::unix::fs::chown(&path, Some(other), None).unwrap();
    let said = read(Path::new(&path)).unwrap_err().to_string();
    assert!(said.contains("user 4242") && said.contains("chown root"), "{said}");
    std::os::unix::fs::chown(&path, Some(0), None).unwrap();
    std::os::unix::fs::chown(place.path(), Some(other), None).unwrap();
    assert_eq!(inspect(Path::new(&path)).unwrap().defects.len(), 1);
}

#[test]
fn what_is_no_policy_file_is_refused() {
    let (place, path) = place("a.toml", GOOD);
    let refused = |path: &Path| inspect(path).unwrap_err().to_string();
    assert!(refused(place.path()).contains("a directory"));
    assert!(refused(Path::new("/")).contains("a directory"));
    assert!(refused(Path::new("/dev/null")).contains("a device"));
    assert!(refused(&Path::new(&path).join("below")).contains("Not a directory"));
    assert!(refused(Path::new("")).contains("can't read the policy"));

    // Nobody writes to this FIFO: whoever opened it to read would wait forever.
    let fifo = place.path().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert!(refused(&fifo).contains("a FIFO"));

    let round = place.path().join("round");
    symlink("round", &round).unwrap();
    assert!(refused(&round).contains("symbolic links"), "{}", refused(&round));
}

#[test]
fn the_size_has_a_limit() {
    let (_place, path) = place("a.toml", &"#".repeat(MAX_SIZE));
    assert_eq!(read(Path::new(&path)).unwrap().len(), MAX_SIZE);
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100 << 20).unwrap();
    assert!(matches!(read(Path::new(&path)), Err(PolicyFileError::TooLarge { .. })));
    assert_eq!(check(&[&path]).status.code(), Some(1));
}

#[test]
fn a_file_swapped_while_it_is_read_is_one_or_the_other() {
    let (place, path) = place("a.toml", GOOD);
    let (path, other) = (Path::new(&path), place.path().join("other"));
    let swapper = {
        let (path, other) = (path.to_owned(), other.clone());
        std::thread::spawn(move || {
            for round in 0..2_000 {
                let _ = fs::remove_file(&other);
                match round % 3 {
                    0 => fs::write(&other, BAD).unwrap(),
                    1 => fs::write(&other, GOOD).unwrap(),
                    _ => symlink("/dev/zero", &other).unwrap(),
                }
                fs::rename(&other, &path).unwrap();
            }
        })
    };
    let mut read_whole = 0;
    while !swapper.is_finished() {
        match read(path) {
            Ok(bytes) => {
                assert!(bytes == GOOD.as_bytes() || bytes == BAD.as_bytes(), "{bytes:?}");
                read_whole += 1;
            }
            // A link to a device, or gone between two looks; unsafe where the umask lets groups
            // write.
            Err(
                PolicyFileError::NotRegular { .. }
                | PolicyFileError::System { .. }
                | PolicyFileError::Unsafe { .. },
            ) => {}
            Err(error) => panic!("{error}"),
        }
    }
    swapper.join().unwrap();
    assert!(read_whole > 0);
}

/// What `run` would refuse is seen beforehand: with its place, what is there, and what to write.
#[test]
fn what_this_machine_does_not_have_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    fs::create_dir(at("real")).unwrap();
    mode(Path::new(&at("real")), 0o755);
    symlink(at("real"), at("link")).unwrap();
    fs::create_dir(at("closed")).unwrap();
    mode(Path::new(&at("closed")), 0o700);
    for name in ["single", "other"] {
        fs::write(at(name), "").unwrap();
    }
    nix::unistd::mkfifo(Path::new(&at("fifo")), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let file = |name: &str, path: &str, rights: &str| {
        format!("[file.{name}]\npath = \"{path}\"\ngrant = {{ b = [{rights}] }}\n")
    };
    let all = "\"read\", \"list\"";
    let policy = [
        "cofferdam = 1\nname = \"a\"\n[layer.b]\nrun = \"b\"\nuid = 970\n\
         syscalls = [\"@core\", \"@file-read\"]\n"
            .to_owned(),
        file("real", &at("real"), all),
        file("missing", &at("missing"), "\"read\""),
        file("link", &at("link/x"), "\"read\""),
        file("fifo", &at("fifo"), "\"read\""),
        file("closed", &at("closed"), all),
        file("may-lack", &at("absent"), "\"read\"") + "optional = true\n",
        file("renewed", &at("single"), "\"read\"").replace("b =", "c ="),
        file("held", &at("other"), "\"read\""),
        "[layer.c]\nexec = [\"/usr/bin/nothing-of-the-kind\"]\nsyscalls = [\"@core\"]\n".to_owned(),
    ]
    .concat();
    let (_place, path) = place("a.toml", &policy);

    let output = check(&["--deny-warnings", &path]);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("note[E0176]") && !told.contains("warning["), "{told}");
    let kept = format!("note[E0178]: layer `c` sees `{}` as it is when it starts", at("single"));
    assert!(told.contains(&kept) && told.matches("E0178").count() == 1, "{told}");
    assert!(!told.contains("absent"), "{told}");

    let output = check(&["--here", "--deny-warnings", &path]);
    assert_eq!(output.status.code(), Some(1));
    let output = check(&["--here", &path]);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    let line = |what: &str| policy.lines().position(|line| line.contains(what)).unwrap() + 1;
    for (what, at_line, help) in [
        (format!("nothing is at `{}`", at("missing")), line("/missing\""), "make it before"),
        ("is a symbolic link".to_owned(), line("/link/x\""), "leads"),
        ("is a FIFO".to_owned(), line("/fifo\""), "[fifo.NAME]"),
        ("no program is at".to_owned(), line("nothing-of-the-kind"), "command -v"),
    ] {
        assert!(told.contains(&what) && told.contains(help), "{what}: {told}");
        assert!(told.contains(&format!("a.toml:{at_line}:")), "{what}, line {at_line}: {told}");
    }
    // The owner may look into what is closed to all others.
    let is_root = rustix::process::geteuid().is_root();
    assert_eq!(told.contains("layer `b` is user 970, which can't"), is_root, "{told}");
    assert!(!told.contains(&format!("`{}`", at("real"))), "{told}");
}
