//! Tests of answers, on the policy of the example.

use super::*;
use crate::policy::check;

const WEB: &str = include_str!("../../../policies/web.toml");

fn answer(text: &str, layer: &str, act: &str, object: &str) -> Result<Answer, QuestionError> {
    can(&check("web.toml", text.as_bytes()).plan.unwrap(), layer, act, object)
}

#[test]
fn the_parser_reaches_the_key_through_the_keeper_only() {
    let no = answer(WEB, "parser", "open", "file.key").unwrap();
    assert!(!no.yes);
    let way: Vec<_> = no.way.iter().flatten().map(ToString::to_string).collect();
    assert_eq!(way, ["parser calls sign on channel.sign", "keeper reads file.key"]);
    assert_eq!(no.through, ["keeper"].map(|name| Name::new(name).unwrap()));
    assert!(answer(WEB, "parser", "reach", "file.key").unwrap().yes);
    assert!(answer(WEB, "keeper", "read", "file.key").unwrap().yes);
}

#[test]
fn the_change_that_is_told_makes_it_a_yes() {
    for (layer, act, object) in [
        ("parser", "read", "file.key"),
        ("keeper", "write", "file.site"),
        ("parser", "make", "syscall.openat2"),
        ("opener", "make", "syscall.umask"),
        ("opener", "call", "channel.sign"),
    ] {
        let no = answer(WEB, layer, act, object).unwrap();
        assert!(!no.yes);
        let Change { table, key, line, replaces, .. } = no.change.unwrap();
        let start = WEB.find(&format!("[{table}]")).unwrap();
        let old = WEB[start..].lines().find(|line| line.starts_with(key)).unwrap();
        let new = if replaces { line } else { old.replace(']', &format!(", {line}]")) };
        let changed = format!("{}{}", &WEB[..start], WEB[start..].replacen(old, &new, 1));
        assert!(answer(&changed, layer, act, object).unwrap().yes, "{changed}");
    }
}

/// A database, who reads what it exports, and who asks the reader.
const OWNED: &str = "cofferdam = 1\nname = \"x\"\n\
    [layer.db]\nrun = \"db\"\nsyscalls = [\"@core\"]\nstate = \"/var/lib/db\"\n\
    runtime-directory = \"/run/db\"\n\
    [layer.reader]\nrun = \"reader\"\nsyscalls = [\"@core\"]\n\
    [layer.other]\nrun = \"other\"\nsyscalls = [\"@core\"]\n\
    [channel.c]\nfrom = \"reader\"\nto = \"other\"\nmethods = { m = {} }\n\
    [file.lib]\npath = \"/var/lib\"\ngrant = { reader = [\"read\"] }\n\
    [file.srv]\npath = \"/srv\"\ngrant = { other = [\"read\"] }\ndeny = [\"*.key\"]\n";

#[test]
fn a_directory_of_its_own_is_an_object() {
    let yes = |layer, act, object| answer(OWNED, layer, act, object).unwrap().yes;
    for act in ["own", "open", "read", "append", "mkdir"] {
        assert!(yes("db", act, "state.db"), "{act}");
        assert!(!yes("reader", act, "state.db"), "{act}");
    }
    let error = answer(OWNED, "db", "execute", "state.db").unwrap_err().to_string();
    assert!(error.contains("nothing that is done to state.db"), "{error}");
    // What the owner writes comes to who reads there, and to whom that one tells of it.
    let far = answer(OWNED, "db", "reach", "layer.other").unwrap();
    let way: Vec<_> = far.way.iter().flatten().map(ToString::to_string).collect();
    assert_eq!(
        way,
        [
            "db owns state.db, where file.lib lies, which reader reads",
            "reader calls m on channel.c"
        ]
    );
    let no = answer(OWNED, "other", "write", "state.db").unwrap();
    assert!(no.hint.unwrap().contains("[file.NAME]"));
}

#[test]
fn a_path_stands_for_what_is_granted_there() {
    let about = |layer, act, path| answer(OWNED, layer, act, path).map(|it| (it.object, it.yes));
    let found = |object: &str, yes| Ok((object.to_owned(), yes));
    assert_eq!(about("db", "write", "/var/lib/db/a/b"), found("state.db", true));
    assert_eq!(about("db", "write", "/var/lib/db"), found("state.db", true));
    // The nearest of those that say yes, or else the nearest.
    assert_eq!(about("reader", "read", "/var/lib/db/a"), found("file.lib", true));
    assert_eq!(about("reader", "write", "/var/lib/db/a"), found("state.db", false));
    assert_eq!(about("reader", "write", "/var/lib/dbx"), found("file.lib", false));
    assert_eq!(about("other", "read", "/srv/a/page"), found("file.srv", true));
    for (layer, path) in [
        ("other", "/srv/a/tls.key"),
        ("db", "/var"),
        ("db", "/etc/passwd"),
        ("reader", "/run/db/socket"),
    ] {
        let error = about(layer, "read", path).unwrap_err().to_string();
        assert!(error.contains("no layer's own directory holds that path"), "{path}: {error}");
    }
    assert_eq!(about("db", "write", "/run/db/socket"), found("runtime-directory.db", true));
}

#[test]
fn no_change_grants_clone3() {
    assert_eq!(answer(WEB, "parser", "make", "syscall.clone3").unwrap().change, None);
}

#[test]
fn unknown_words_name_the_nearest() {
    let error = |layer, act, object| answer(WEB, layer, act, object).unwrap_err().to_string();
    assert_eq!(
        error("praser", "open", "file.key"),
        "there is no layer `praser`; did you mean `parser`?"
    );
    assert_eq!(
        error("parser", "open", "key"),
        "there is no `key` in this policy; did you mean `file.key`?"
    );
    assert_eq!(
        error("parser", "open", "file.kye"),
        "there is no `file.kye` in this policy; did you mean `file.key`?"
    );
    assert_eq!(
        error("parser", "make", "syscall.opnat"),
        "there is no `syscall.opnat` in this policy; did you mean `syscall.openat`?"
    );
    assert_eq!(
        error("parser", "raed", "file.key"),
        "`raed` is nothing that is done to file.key; did you mean `read`?"
    );
    assert!(error("parser", "open", "channel.sign").contains("`call`, `answer`"));
    assert!(error("parser", "read", "layer.keeper").ends_with("ask for `reach`"));
}
