//! What a policy says of the audit log, and what is made of it.

use std::time::Duration;

use cofferdam::policy::plan::{Audit, AuditPlan, LogFull, Plan};
use cofferdam::policy::ways::Ways;
use cofferdam::policy::{Checked, Inputs, check, check_with, print, unbuilt};
use cofferdam::review::diff::{Diff, Gain};
use cofferdam::review::{diff, explain};

crate::support::suite::tests! {
    without_a_word_everything_is_recorded_where_there_is_a_log,
    a_log_is_demanded_in_so_many_words_only,
    what_is_written_is_what_is_planned,
    what_is_out_of_range_is_refused,
    a_key_of_which_everybody_knows_the_secret_is_refused,
    a_grant_near_the_directory_is_told_by_its_rule,
    a_ceiling_can_demand_a_log,
    less_evidence_is_gained_and_more_is_not,
    each_facility_that_is_left_out_is_a_change,
    explain_says_what_is_kept_of_each,
}

const HEAD: &str = "cofferdam = 1\nname = \"d\"\n[layer.a]\nrun = \"a\"\n[layer.b]\nrun = \"b\"\n";
const CHANNEL: &str = "[channel.c]\nfrom = \"a\"\nto = \"b\"\n";
const KEY: &str = "ea174c3dc1909bd4bda4712a90a1bcc8a1eebef3f92c1222964195d3749ce306";

fn checked(text: &str) -> Checked {
    check("test.toml", format!("{HEAD}{text}").as_bytes())
}

fn plan(text: &str) -> Plan {
    let checked = checked(text);
    checked.plan.as_ref().unwrap_or_else(|| panic!("{text}\n{}", checked.render(false))).clone()
}

/// The codes of what is wrong.
fn codes(text: &str) -> Vec<u16> {
    checked(text).diagnostics.iter().map(|it| it.code.number()).collect()
}

fn without_a_word_everything_is_recorded_where_there_is_a_log() {
    let plan = plan(
        "[channel.c]\nfrom = \"a\"\nto = \"b\"\n\
         [file.f]\npath = \"/srv/f\"\ngrant = { a = [\"read\"] }\n\
         [signal.s]\nfrom = \"a\"\nto = \"b\"\nsend = [\"HUP\"]\n\
         [queue.q]\nsend = [\"a\"]\nreceive = [\"b\"]\n\
         [pipe.p]\nfrom = \"a\"\nto = \"b\"\n\
         [fifo.i]\npath = \"/run/i\"\nto = \"a\"\n\
         [semaphore.e]\npermits = 1\nholders = [\"a\"]\n\
         [region.r]\nsize = \"4KiB\"\ngrant = { a = \"rw\", b = \"r\" }\n\
         [mapped-file.m]\npath = \"/srv/m\"\nsize = \"4KiB\"\ngrant = { a = \"rw\" }\n",
    );
    let all = &plan.facilities;
    let levels = [
        plan.channels[0].audit,
        plan.files[0].audit,
        all.signals[0].audit,
        all.queues[0].audit,
        all.pipes[0].audit,
        all.fifos[0].audit,
        all.semaphores[0].audit,
        all.regions[0].audit,
        all.mapped_files[0].audit,
    ];
    assert_eq!(levels, [Audit::Digest; 9]);
    assert_eq!(plan.audit, AuditPlan::default());
    assert!(!plan.audit.demanded);
    assert!(!print(&plan).contains("audit"), "printed, it would demand a log");
}

fn a_log_is_demanded_in_so_many_words_only() {
    let sealed = format!("{CHANNEL}audit = \"payload\"\n[audit]\npayload-key = \"{KEY}\"\n");
    let file = "[file.f]\npath = \"/srv/f\"\ngrant = { a = [\"read\"] }\n";
    for (text, demanded) in [
        (CHANNEL.to_owned(), false),
        (format!("{CHANNEL}[audit]\n"), true),
        (format!("{CHANNEL}audit = \"digest\"\n"), true),
        (format!("{CHANNEL}audit = \"none\"\n"), false),
        (format!("{CHANNEL}witness = true\n"), true),
        (format!("{CHANNEL}witness = false\n"), false),
        (format!("{file}audit = \"digest\"\n"), true),
        (format!("{file}audit = \"none\"\n"), false),
        (sealed, true),
    ] {
        let plan = plan(&text);
        assert_eq!(plan.audit.demanded, demanded, "{text}");
        assert_eq!(unbuilt(&plan), Vec::<String>::new());
        let printed = print(&plan);
        let again = check("printed.toml", printed.as_bytes()).plan;
        assert_eq!(again.as_ref(), Some(&plan), "{printed}");
        assert_eq!(again.unwrap().id(), plan.id());
    }
}

fn what_is_written_is_what_is_planned() {
    let text = format!(
        "{CHANNEL}audit = \"payload\"\n[audit]\ndirectory = \"/var/log/d\"\non-full = \"halt\"\n\
         payload-key = \"{}\"\nsegment = \"1MiB\"\nsegment-age = \"365d\"\nkeep = \"1MiB\"\n\
         keep-age = \"365d\"\nring = \"64KiB\"\n",
        KEY.to_uppercase()
    );
    let audit = plan(&text).audit;
    assert!(audit.demanded);
    assert_eq!(audit.directory.as_deref(), Some("/var/log/d"));
    assert_eq!(audit.on_full, LogFull::Halt);
    assert_eq!(audit.payload_key.map(|key| (key[0], key[31])), Some((0xea, 0x06)));
    assert_eq!((audit.segment_bytes, audit.ring_bytes), (1 << 20, 64 << 10));
    assert_eq!(audit.segment_age, Duration::from_hours(365 * 24));
    assert_eq!((audit.keep_bytes, audit.keep_age), (Some(1 << 20), Some(audit.segment_age)));
    // Whole pages, with a warning.
    assert_eq!(plan("[audit]\nring = 70000\n").audit.ring_bytes, 72 << 10);
    assert_eq!(plan("[audit]\nring = \"64MiB\"\n").audit.ring_bytes, 64 << 20);
}

fn what_is_out_of_range_is_refused() {
    for line in [
        "segment = \"1023KiB\"",
        "segment = 4294967297",
        "segment-age = \"59s\"",
        "segment-age = \"366d\"",
        "ring = \"63KiB\"",
        "ring = \"65MiB\"",
        "keep = \"1023KiB\"",
    ] {
        let codes = codes(&format!("[audit]\n{line}\n"));
        assert!(codes.contains(&116), "{line}: {codes:?}");
    }
    for line in ["keep = \"63MiB\"", "keep-age = \"23h\"", "segment = \"1GiB\"\nkeep = \"1023MiB\""]
    {
        assert_eq!(codes(&format!("[audit]\n{line}\n")), [127], "{line}");
    }
}

/// The u-coordinates of small order on Curve25519 and its twist, below the prime
/// (cr.yp.to/ecdh.html, "contributory behaviour"), and those that are the same above it.
fn a_key_of_which_everybody_knows_the_secret_is_refused() {
    let bytes = |first: &str, rest: &str, last: &str| format!("{first}{}{last}", rest.repeat(30));
    let weak = [
        bytes("00", "00", "00"),
        bytes("01", "00", "00"),
        bytes("ec", "ff", "7f"),
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800".to_owned(),
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157".to_owned(),
        bytes("ed", "ff", "7f"),
        bytes("ee", "ff", "7f"),
        bytes("00", "00", "80"),
        bytes("09", "00", "80"),
    ];
    let with = |key: &str| {
        codes(&format!("{CHANNEL}audit = \"payload\"\n[audit]\npayload-key = \"{key}\"\n"))
    };
    for key in weak {
        assert_eq!(with(&key), [195], "{key}");
    }
    assert_eq!(with(&bytes("09", "00", "00")), [0; 0]);
    assert_eq!(with(KEY), [0; 0]);
    assert_eq!(with(&KEY[1..]), [195]);
}

fn a_grant_near_the_directory_is_told_by_its_rule() {
    let plan = plan(
        "syscalls = [\"@core\", \"@net-stream\"]\n\
         listen = { door = \"unix:/run/d/door\" }\nconnect = { log = \"unix:/dev/log\" }\n\
         [layer.x]\nexec = [\"/bin/x\"]\n\
         [file.f]\npath = \"/var/lib/d/f\"\ngrant = { a = [\"read\"] }\n\
         [fifo.i]\npath = \"/run/d/i\"\nto = \"a\"\n\
         [mapped-file.m]\npath = \"/var/lib/d\"\nsize = \"4KiB\"\ngrant = { a = \"rw\" }\n",
    );
    for (directory, rules) in [
        ("/var/log/d", vec![]),
        ("/var/lib/d", vec!["file.f.path", "mapped-file.m.path"]),
        ("/var/lib/d/log", vec!["mapped-file.m.path"]),
        ("/var/lib/dd", vec![]),
        ("/var/lib/d/f/log", vec!["file.f.path", "mapped-file.m.path"]),
        ("/run/d", vec!["layer.b.listen.door", "fifo.i.path"]),
        ("/dev", vec!["layer.b.connect.log"]),
        ("/usr/share/log", vec!["layer.x"]),
        ("/usrlog", vec![]),
    ] {
        assert_eq!(plan.reaching(directory), rules, "{directory}");
    }
    assert_eq!(plan.reaching("/").len(), 6);
}

fn a_ceiling_can_demand_a_log() {
    let codes = |text: &str, ceiling: &str| -> Vec<u16> {
        let ceiling = format!("cofferdam = 1\n[ceiling]\n{ceiling}");
        let inputs = Inputs { ceiling: Some(("top", ceiling.as_bytes())), ..Inputs::default() };
        let checked = check_with("a.toml", format!("{HEAD}{text}").as_bytes(), &inputs);
        checked.diagnostics.iter().map(|it| it.code.number()).collect()
    };
    let demands = "audit = \"digest\"\n";
    assert_eq!(codes(CHANNEL, demands), [124]);
    assert_eq!(codes(&format!("{CHANNEL}[audit]\n"), demands), [0; 0]);
    assert_eq!(codes(&format!("{CHANNEL}audit = \"none\"\n[audit]\n"), demands), [124]);
    assert_eq!(codes(CHANNEL, "audit = \"none\"\n"), [0; 0]);
    assert_eq!(codes(CHANNEL, "audit = \"payload\"\n"), [112]);
}

fn differ(old: &str, new: &str) -> Diff {
    diff(&plan(old), &plan(new))
}

fn less_evidence_is_gained_and_more_is_not() {
    let with = |channel: &str, log: &str| format!("{CHANNEL}{channel}\n[audit]\n{log}\n");
    let plain = with("", "");
    let key = format!("payload-key = \"{KEY}\"");
    let other = key.replace("ea174c", "ea174d");
    let payload = "audit = \"payload\"";
    // What it was, what it is, and whether the change and the way back count as gained.
    for (old, new, forth, back) in [
        (plain.clone(), with("audit = \"none\"", ""), true, false),
        (plain.clone(), CHANNEL.to_owned(), true, false),
        (with("witness = true", ""), plain.clone(), true, false),
        (plain.clone(), with("", "on-full = \"count\""), true, false),
        // Neither loses anything.
        (plain.clone(), with("", "on-full = \"halt\""), true, true),
        (plain.clone(), with("", "keep = \"1GiB\""), true, false),
        (with("", "keep = \"2GiB\""), with("", "keep = \"1GiB\""), true, false),
        (plain.clone(), with("", "keep-age = \"90d\""), true, false),
        (plain.clone(), with("", "directory = \"/srv/log\""), true, true),
        // More evidence, and more that somebody reads.
        (plain.clone(), with(payload, &key), true, true),
        (with(payload, &key), with(payload, &other), true, true),
        // Nobody's authority.
        (plain.clone(), with("", "segment = \"1MiB\"\nring = \"2MiB\""), false, false),
    ] {
        assert_eq!(differ(&old, &new).gained(), forth, "{old}\n->\n{new}");
        assert_eq!(differ(&new, &old).gained(), back, "{new}\n->\n{old}");
    }
    let lost = differ(&plain, CHANNEL).log;
    assert_eq!((lost.len(), lost[0].name.as_str(), lost[0].gain), (1, "log", Gain::Gained));
    assert!(differ(&plain, &with("", "segment = \"1MiB\"")).is_empty());
    // How a log is kept that nobody had to keep is no change of its own.
    assert_eq!(differ(CHANNEL, &with("", "on-full = \"count\"")).log.len(), 1);
}

fn each_facility_that_is_left_out_is_a_change() {
    for facility in [
        "[channel.x]\nfrom = \"a\"\nto = \"b\"\n",
        "[file.x]\npath = \"/srv/f\"\ngrant = { a = [\"read\"] }\n",
        "[signal.x]\nfrom = \"a\"\nto = \"b\"\nsend = [\"HUP\"]\n",
        "[queue.x]\nsend = [\"a\"]\nreceive = [\"b\"]\n",
        "[pipe.x]\nfrom = \"a\"\nto = \"b\"\n",
        "[fifo.x]\npath = \"/run/i\"\nto = \"a\"\n",
        "[semaphore.x]\npermits = 1\nholders = [\"a\"]\n",
        "[region.x]\nsize = \"4KiB\"\ngrant = { a = \"rw\", b = \"r\" }\n",
        "[mapped-file.x]\npath = \"/srv/m\"\nsize = \"4KiB\"\ngrant = { a = \"rw\" }\n",
    ] {
        let out = format!("{facility}audit = \"none\"\n");
        assert!(differ(facility, &out).gained(), "{facility}");
        assert!(!differ(&out, facility).gained(), "{facility}");
        assert!(!differ(&out, facility).is_empty(), "{facility}");
    }
}

fn explain_says_what_is_kept_of_each() {
    let lines = |text: &str, layer: &str| -> Vec<String> {
        let plan = plan(text);
        let account = explain(&plan, plan.layer(layer).unwrap(), &Ways::of(&plan));
        let subjects = account.subjects.into_iter();
        subjects.filter(|(subject, _)| *subject == "recorded").flat_map(|it| it.1).collect()
    };
    let text = format!(
        "[layer.z]\nrun = \"z\"\n{CHANNEL}audit = \"payload\"\nwitness = true\n\
         [queue.q]\nsend = [\"a\"]\nreceive = [\"b\"]\n\
         [pipe.p]\nfrom = \"b\"\nto = \"a\"\naudit = \"none\"\n[audit]\npayload-key = \"{KEY}\"\n"
    );
    let said = [
        "whole messages, sealed to payload-key, of channel.c",
        "what is done, with hashes, on queue.q",
        "nothing of pipe.p",
        "and by the witness, on channel.c",
    ];
    assert_eq!(lines(&text, "a"), said);
    assert_eq!(lines(&text, "b"), said);
    assert_eq!(lines(&text, "z"), [""; 0]);
    let said = lines(CHANNEL, "a");
    assert_eq!(said[0], "only where the daemon is run with --audit:");
    assert_eq!(said[1..], ["what is done, with hashes, on channel.c"]);
}
