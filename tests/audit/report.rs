//! `cofferdam audit report`: a page that is whole, harmless and small, and counts as `query` does.

use std::path::Path;
use std::process::Command;

use crate::support::scene::{Scene, used, who};
use cofferdam::audit::entry::{Entry, Facility, Form, Kind, Side, Verdict, Who};
use cofferdam::wire::broker::open;

crate::support::suite::tests! {
    a_hundred_thousand_records_make_a_small_page_that_counts_right,
    a_page_tells_of_what_is_asked_for_and_judges_all,
    times_in_which_nothing_happened_take_no_room,
    nothing_that_a_log_holds_is_more_than_text,
    a_broken_log_says_so,
}

fn cofferdam(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_cofferdam")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn report(dir: &Path) -> String {
    let (code, page, err) = cofferdam(&["audit", "report", dir.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (0, ""));
    page
}

/// The web example's policy, with its channels audited.
fn web() -> String {
    let text = std::fs::read_to_string("policies/web.toml").unwrap();
    let text = text.replace("\nmethods = ", "\naudit   = \"digest\"\nmethods = ");
    assert_eq!(text.matches("digest").count(), 3);
    text
}

const HOSTILE: &str = "<script>alert('x')</script>\u{1b}]0;x\u{7}\u{202e}\"><img src=x>";

/// The web example under load, with some trouble. Six thousand clients make 100,000 records.
fn load(dir: &Path, clients: u64) {
    let mut scene = Scene::begin(dir, &web());
    let layer = |scene: &Scene, name: &str| who(scene.layer(name), 1);
    let listener = layer(&scene, "listener");
    let keeper = layer(&scene, "keeper");
    let opener = layer(&scene, "opener");
    let mut parser = layer(&scene, "parser");
    for client in 0..clients {
        scene.pass(500_000 + client % 17 * 400_000);
        let accepted = used(Facility::Listen, 0, listener, Side::Receiver);
        scene.put(Entry { sequence: client, detail: b"192.0.2.7:40123".to_vec(), ..accepted });
        scene.pass(30_000);
        scene.message("connections", "connection", listener, parser, 1);
        scene.pass(200_000);
        let sign = scene.call("sign", "sign", parser, keeper, 130);
        scene.pass(150_000 + client % 29 * 20_000);
        if client % 997 == 5 {
            scene.answer(sign, Form::Refusal, 20, 0);
            continue;
        }
        scene.answer(sign, Form::Reply, 256, 0);
        scene.pass(90_000);
        let page = scene.call("open", "open", parser, opener, 40);
        if client % 13 == 1 {
            let site =
                u16::try_from(scene.plan.files.iter().position(|it| it.name == *"site").unwrap());
            let read = Entry {
                method: open::READ.into(),
                ..used(Facility::File, site.unwrap(), opener, Side::None)
            };
            scene.pass(40_000);
            scene.put(read);
        }
        scene.pass(if client == 77 { 40_000_000 } else { 60_000 });
        scene.answer(page, Form::Reply, 120, 1);
        if client % 1_000 == 999 {
            scene.exit(parser, if client % 2_000 == 999 { 139 } else { 9 });
            scene.pass(20_000_000);
            parser.generation += 1;
            scene.spawn(parser);
        }
        if client % 700 == 300 {
            let denial = Entry { peer: parser, method: 59, ..Entry::new(Kind::Denial) };
            scene.put(Entry { facility: Facility::Syscall, ..denial });
        }
        if client % 1_500 == 400 {
            let loss = Entry { facility: Facility::Channel, ..Entry::new(Kind::Loss) };
            scene.put(Entry { edge: 1, reporter: parser, length: 12, ..loss });
        }
        if client % 2_500 == 1_200 {
            scene.alarm("parser/0.g1 reports messages on channel.sign that keeper never sent");
        }
    }
    scene.alarm(HOSTILE);
    let detail = HOSTILE.as_bytes().to_vec();
    let denial = Entry { peer: parser, method: 3, detail, ..Entry::new(Kind::Denial) };
    scene.put(Entry { facility: Facility::Landlock, ..denial });
    let refused = Entry {
        verdict: Verdict::Refused,
        value: 4,
        ..used(Facility::Channel, 1, opener, Side::Receiver)
    };
    scene.put(Entry {
        form: Form::Request,
        peer: parser,
        method: 9,
        detail: HOSTILE.into(),
        ..refused
    });
    scene.pass(1_000_000_000);
    scene.end();
}

/// How many lines `query` gives.
fn query(dir: &Path, arguments: &[&str]) -> u64 {
    let (code, out, err) =
        cofferdam(&[&["audit", "query", dir.to_str().unwrap()], arguments].concat());
    assert_eq!(code, 0, "{err}");
    out.lines().count() as u64
}

/// The number that a card shows.
fn card(page: &str, what: &str) -> u64 {
    let end = page.find(&format!("</b>{what}</li>")).unwrap_or_else(|| panic!("{what}"));
    let begin = page[..end].rfind("<b>").unwrap() + 3;
    page[begin..end].replace(',', "").parse().unwrap()
}

/// The numbers of an edge's row, in columns from the third on.
fn row(page: &str, edge: &str) -> Vec<u64> {
    let begin = page.find(&format!("<tr class=\"edge\"><td>{edge}</td>")).unwrap();
    let row = page[begin..].lines().next().unwrap();
    row.split("data-v=\"")
        .skip(1)
        .map(|it| it.split('"').next().unwrap().parse().unwrap())
        .collect()
}

fn a_hundred_thousand_records_make_a_small_page_that_counts_right() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    load(dir, 9_100);
    let page = report(dir);
    let records = card(&page, "records");
    assert!(records > 100_000, "{records}");
    assert!(page.len() < 2 << 20, "{} bytes", page.len());
    assert_eq!(records, query(dir, &[]));
    let refusals = query(dir, &["--verdict", "refused,killed", "--kind", "use,broker"]);
    assert_eq!(card(&page, "refusals"), refusals);
    assert_eq!(card(&page, "kernel denials"), query(dir, &["--kind", "denial"]));
    assert_eq!(card(&page, "alarms"), query(dir, &["--kind", "alarm"]));
    assert_eq!(card(&page, "lives"), query(dir, &["--kind", "spawn"]));
    assert_eq!(card(&page, "reports lost"), 12 * query(dir, &["--kind", "loss"]));
    for name in ["channel.connections", "channel.open", "channel.sign"] {
        let row = row(&page, name);
        assert_eq!(row[0], query(dir, &["--edge", name, "--kind", "use"]), "{name}");
        let refused = ["--edge", name, "--verdict", "refused", "--kind", "use"];
        assert_eq!(row[7], query(dir, &refused), "{name}");
    }
    assert_eq!(
        row(&page, "listen.listener.https")[0],
        query(dir, &["--edge", "listen", "--kind", "use"])
    );
    // Every client, from its connection on, and the request that was refused.
    let ways = page.split("requests, connections and messages had consequences").next().unwrap();
    let ways = ways.rsplit("<p>").next().unwrap().trim().replace(',', "");
    assert_eq!(ways.parse::<u64>().unwrap(), 9_101);
    let slowest = page.split("The slowest").nth(1).unwrap().split("The newest").next().unwrap();
    let newest = page.split("The newest").nth(1).unwrap();
    assert_eq!(newest.matches("class=\"way\"").count(), 20);
    // The others took the same steps, some besides read a file.
    let groups = slowest.matches("class=\"way\"").count();
    assert!((1..=3).contains(&groups), "{groups} groups");
    assert!(slowest.contains(" like it, "), "{slowest}");
    let first = slowest.split("class=\"way\"").nth(1).unwrap();
    for step in [
        "listen.listener.https",
        "listener → parser: channel.connections connection",
        "parser → keeper: channel.sign sign",
        "parser → opener: channel.open open",
    ] {
        assert!(first.contains(step), "{step} is not in {first}");
    }
    assert!(first.contains("<b>40 ms</b>"), "{first}");
}

fn a_page_tells_of_what_is_asked_for_and_judges_all() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    load(dir, 1_600);
    let page = |arguments: &[&str]| {
        let (code, page, err) =
            cofferdam(&[&["audit", "report", dir.to_str().unwrap()], arguments].concat());
        assert_eq!((code, err.as_str()), (0, ""));
        page
    };
    let all = page(&[]);
    let refused = ["--verdict", "refused,killed", "--kind", "use,broker"];
    for wanted in [&["--layer", "keeper"][..], &["--edge", "channel.sign"], &["--kind", "alarm"]] {
        let told = page(wanted);
        assert_eq!(card(&told, "records"), query(dir, wanted), "{wanted:?}");
        if wanted[0] != "--kind" {
            assert_eq!(card(&told, "refusals"), query(dir, &[wanted, &refused[..]].concat()));
        }
        assert!(card(&told, "records") < card(&all, "records"));
        assert!(told.contains("a part of the log that was asked for"));
        // What is judged is the whole log.
        let judged = |page: &str| {
            let begin = page.find("<div class=\"verdict").unwrap();
            page[begin..page.find("id=\"topology\"").unwrap()].to_owned()
        };
        assert_eq!(judged(&told), judged(&all));
    }
    // Ways by an edge are whole; those of clients that were refused before have none.
    let told = page(&["--edge", "channel.open"]);
    let ways = told.split("The newest").nth(1).unwrap();
    assert_eq!(ways.matches("class=\"way\"").count(), 20);
    // Of a request that was refused nothing came before.
    assert_eq!(ways.matches("channel.open open").count(), 19);
    assert!(ways.contains("channel.open #9, refused"));
    assert_eq!(ways.matches("channel.sign sign").count(), 19);
    let none = page(&["--until", "2001-01-01T00:00:00Z"]);
    assert_eq!(card(&none, "records"), 0);
    assert!(none.contains("There are no refusals, denials by the kernel, alarms, lost reports in"));
    let (code, _, err) =
        cofferdam(&["audit", "report", dir.to_str().unwrap(), "--layer", "nobody-here"]);
    assert!(code == 2 && err.contains("nobody-here"), "{err}");
}

fn times_in_which_nothing_happened_take_no_room() {
    let folder = tempfile::tempdir().unwrap();
    let mut scene = Scene::begin(folder.path(), &web());
    let (parser, keeper) = (who(scene.layer("parser"), 1), who(scene.layer("keeper"), 1));
    for _ in 0..3 {
        for _ in 0..100 {
            let sign = scene.call("sign", "sign", parser, keeper, 130);
            scene.pass(2_000_000);
            scene.answer(sign, Form::Reply, 256, 0);
        }
        scene.pass(40_000_000_000_000);
    }
    scene.exit(parser, 9);
    scene.end();
    let page = report(folder.path());
    let breaks = page.matches("class=\"tl-break\"").count();
    assert_eq!(breaks, 3, "between three bursts, and before the end");
    assert!(page.contains("nothing for 11 h 6 min"), "{page}");
    // Each burst is some dozens of bars, and not one.
    assert!(page.matches("class=\"tl-bar\"").count() > 100);
    // Of the killed life, and of no other, the end is red.
    assert_eq!(page.matches("class=\"tl-failed\"").count(), 1);
}

fn nothing_that_a_log_holds_is_more_than_text() {
    let folder = tempfile::tempdir().unwrap();
    let plan = {
        let mut scene = Scene::bare(folder.path(), crate::support::scene::plan(&web()));
        // The tables may be anybody's too.
        let mut tables = crate::support::scene::tables(&scene.plan);
        let hostile =
            |names: &mut Vec<String>| names.iter_mut().for_each(|name| *name = HOSTILE.into());
        hostile(&mut tables.layers);
        hostile(&mut tables.rules);
        (tables.daemon, tables.policy) = (HOSTILE.into(), HOSTILE.into());
        for edge in tables.edges.iter_mut().flat_map(|edges| &mut edges.edges) {
            edge.name = HOSTILE.into();
            hostile(&mut edge.methods);
        }
        tables.text = format!("# {HOSTILE}\n[");
        scene.tables(&tables);
        let (a, b) = (who(0, 1), who(1, 1));
        scene.spawn(a);
        let call = scene.call("sign", "sign", a, b, 10);
        scene.answer(call, Form::Refusal, 10, 0);
        for facility in Facility::ALL {
            for kind in Kind::ALL.iter().filter(|it| !matches!(it, Kind::Policy | Kind::Stop)) {
                let (detail, verdict) = (HOSTILE.as_bytes().to_vec(), Verdict::Refused);
                let entry = Entry { facility: *facility, detail, verdict, ..Entry::new(*kind) };
                scene.put(Entry { reporter: a, peer: b, method: 77, edge: 9, ..entry });
            }
        }
        scene.exit(a, u32::MAX);
        scene.exit(Who::NOBODY, 0);
        let plan = scene.plan.clone();
        scene.end();
        plan
    };
    let page = report(folder.path());
    // What is markup is the report's own.
    assert_eq!(page.matches("<script").count(), 1);
    assert!(!page.contains("<img") && !page.contains("alert('x')"), "{}", plan.name);
    assert!(page.contains("&lt;script&gt;"));
    let strange = |c: &char| c.is_control() && *c != '\n' || ('\u{202a}'..='\u{202e}').contains(c);
    assert_eq!(page.chars().find(strange), None);
    for own in
        ["default-src 'none'", "<meta charset=\"utf-8\">", "@media print", "prefers-color-scheme"]
    {
        assert!(page.contains(own), "{own}");
    }
    for outside in ["http://", "https://", "url(", "@import", "src=", "<link", "onerror="] {
        let other = page.replace("http://www.w3.org/2000/svg", "").replace("src=x", "");
        assert!(!other.contains(outside), "{outside}");
    }
}

fn a_broken_log_says_so() {
    let folder = tempfile::tempdir().unwrap();
    load(folder.path(), 50);
    let path = folder.path().join("00000000.log");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let output = folder.path().join("report.html");
    let arguments =
        ["audit", "report", folder.path().to_str().unwrap(), "-o", output.to_str().unwrap()];
    let (code, out, err) = cofferdam(&arguments);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("cofferdam audit verify"), "{err}");
    let page = std::fs::read_to_string(output).unwrap();
    assert!(page.contains("The log is broken.") && page.contains("00000000.log, record"));
}
