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
