//! The pictures: what is in them, that they are well-formed, and that nothing covers anything.
//!
//! Each test leaves its pictures in the target's `tmp/graph` directory, to be looked at.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use cofferdam::ident::Name;
use cofferdam::policy::check;
use cofferdam::policy::plan::{
    Audit, ConnectAddress, ConnectPlan, Direction, FifoPlan, MapRight, MappedFilePlan, Never,
    OnFull, PipePlan, Plan, QueuePlan, Rate, RegionPlan, SemaphorePlan, SignalPlan,
};
use cofferdam::policy::ways::Ways;
use cofferdam::review::exposure;
use cofferdam::review::graph::Graph;

fn plan(text: &str) -> Plan {
    let checked = check("test.toml", text.as_bytes());
    checked.plan.as_ref().unwrap_or_else(|| panic!("{}", checked.render(false))).clone()
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn web() -> Plan {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/web.toml");
    plan(&std::fs::read_to_string(path).unwrap())
}

/// A daemon that has one of everything.
fn everything() -> Plan {
    let mut plan = plan(
        r#"
        cofferdam = 1
        name = "plant-gateway"
        [layer.front]
        run = "front"
        instances = 4
        syscalls = ["@core", "@net-stream"]
        listen = { https = "tcp:[::]:8443", local = "unix:/run/plant/gateway.sock" }
        [layer.logic]
        run = "logic"
        syscalls = ["@core"]
        [layer.keeper]
        run = "keeper"
        syscalls = ["@core"]
        [layer.store]
        run = "store"
        syscalls = ["@core", "openat2"]
        [layer.bus]
        run = "bus"
        because = "speaks the field bus"
        syscalls = ["@core", "@net-stream"]
        capabilities = ["CAP_NET_RAW"]
        execmem = true
        uid = 0
        [layer.convert]
        exec = ["/usr/bin/jq", "."]
        [channel.ask]
        from = "front"
        to = "logic"
        methods = { hello = { max = "64B" }, read = { max = "4KiB" }, write = { max = "4KiB" }, watch = {}, list = {}, stop = {} }
        fds = { max = 2, kinds = ["file-read", "sealed-memory"] }
        [channel.sign]
        from = "front"
        to = "keeper"
        methods = { sign = { max = "2KiB" } }
        [channel.field]
        from = "logic"
        to = "bus"
        methods = ["poll", "event"]
        [file.key]
        path = "/etc/plant/gateway/private/key.pem"
        grant = { keeper = ["read"] }
        [file.records]
        path = "/var/lib/plant/records/of/the/whole/plant/since/it/was/built"
        grant = { store = ["read", "write", "create", "list"], front = ["read"] }
    "#,
    );
    let field = plan.channels.iter_mut().find(|channel| channel.name == "field").unwrap();
    field.methods[0].direction = Direction::Back;
    let second = Duration::from_secs(1);
    field.methods[1].rate = Some(Rate { count: 50, per: second });
    let bus = plan.layers.iter_mut().find(|layer| layer.name == "bus").unwrap();
    let host = "plc-7.plant.example".to_owned();
    let address = ConnectAddress::Tcp { host, port: 502 };
    bus.connect.push(ConnectPlan { name: name("plc"), address, inject: None });
    facilities(&mut plan);
    plan.never.push(Never {
        layer: name("front"),
        reach: "file.key".to_owned(),
        through_except: vec![name("keeper")],
    });
    plan
}

/// One of each kind that is no channel, file or socket.
fn facilities(plan: &mut Plan) {
    let second = Duration::from_secs(1);
    let all = &mut plan.facilities;
    all.signals.push(SignalPlan {
        name: name("reload"),
        from: name("logic"),
        to: name("front"),
        send: vec![1, 10],
        rate: Some(Rate { count: 10, per: second }),
        audit: Audit::Digest,
    });
    all.queues.push(QueuePlan {
        name: name("jobs"),
        send: vec![name("bus"), name("logic")],
        receive: vec![name("store")],
        depth: 64,
        max: 4096,
        priorities: 4,
        on_full: OnFull::Reject,
        audit: Audit::Digest,
    });
    all.pipes.push(PipePlan {
        name: name("raw"),
        from: name("logic"),
        to: name("convert"),
        raw: true,
        capacity: 65536,
        rate: None,
        audit: Audit::Digest,
    });
    all.fifos.push(FifoPlan {
        name: name("operator"),
        path: "/run/plant/operator".to_owned(),
        to: name("logic"),
        owner: None,
        mode: 0o622,
        max: 512,
        rate: Some(Rate { count: 5, per: second }),
        audit: Audit::Digest,
    });
    all.semaphores.push(SemaphorePlan {
        name: name("bus-slots"),
        permits: 3,
        holders: vec![name("bus"), name("logic")],
        lease: Some(Duration::from_secs(5)),
        order: Some(1),
        audit: Audit::Digest,
    });
    let both = |writer: &str, reader: &str| {
        BTreeMap::from([(name(writer), MapRight::ReadWrite), (name(reader), MapRight::Read)])
    };
    all.regions.push(RegionPlan {
        name: name("values"),
        size: 8 << 20,
        grant: both("bus", "front"),
        audit: Audit::Digest,
    });
    all.mapped_files.push(MappedFilePlan {
        name: name("counters"),
        path: "/var/lib/plant/counters".to_owned(),
        size: 1 << 16,
        durable: true,
        grant: both("store", "logic"),
        audit: Audit::Digest,
    });
}

/// A daemon of 20 layers: a tree of stages with some links across and back.
fn twenty() -> Plan {
    let names = [
        "accept-a",
        "accept-b",
        "tls",
        "parser",
        "router",
        "auth",
        "session",
        "keeper",
        "render",
        "template",
        "images",
        "search",
        "index",
        "store",
        "cache",
        "mailer",
        "queue-runner",
        "billing",
        "audit-feed",
        "metrics",
    ];
    let mut text = "cofferdam = 1\nname = \"twenty\"\n".to_owned();
    for (at, layer) in names.iter().enumerate() {
        let calls = if at < 3 { "\"@core\", \"@net-stream\"" } else { "\"@core\"" };
        let copies = 1 + at % 3;
        let _ = write!(
            text,
            "[layer.{layer}]\nrun = \"{layer}\"\ninstances = {copies}\nsyscalls = [{calls}]\n"
        );
        if at < 2 {
            let _ = writeln!(text, "listen = {{ web = \"tcp:127.0.0.1:{}\" }}", 8000 + at);
        }
    }
    let channels = [
        ("accept-a", "tls"),
        ("accept-b", "tls"),
        ("tls", "parser"),
        ("tls", "keeper"),
        ("parser", "router"),
        ("router", "auth"),
        ("router", "session"),
        ("router", "render"),
        ("router", "search"),
        ("auth", "keeper"),
        ("auth", "store"),
        ("session", "cache"),
        ("render", "template"),
        ("render", "images"),
        ("search", "index"),
        ("index", "store"),
        ("render", "store"),
        ("router", "billing"),
        ("billing", "mailer"),
        ("billing", "store"),
        ("queue-runner", "mailer"),
        ("router", "queue-runner"),
        ("store", "audit-feed"),
        ("cache", "metrics"),
        ("images", "cache"),
        ("metrics", "router"),
    ];
    for (from, to) in channels {
        let _ = write!(text, "[channel.{from}-{to}]\nfrom = \"{from}\"\nto = \"{to}\"\n");
        // The one that leads back calls nothing: a circle of calls is a mistake.
        text += match from {
            "metrics" => "methods = { news = { direction = \"back\" } }\n",
            _ => "methods = { get = { max = \"4KiB\" }, put = {} }\n",
        };
    }
    for (file, layer) in [("key", "keeper"), ("rows", "store"), ("pages", "template")] {
        let _ = write!(
            text,
            "[file.{file}]\npath = \"/srv/{file}\"\ngrant = {{ {layer} = [\"read\"] }}\n"
        );
    }
    plan(&text)
}

fn draw(file: &str, plan: &Plan) -> String {
    let ways = Ways::of(plan);
    let graph = Graph::new(plan, &|layer| exposure(layer, &ways).score);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("graph");
    std::fs::create_dir_all(&folder).unwrap();
    for (ending, text) in [("svg", graph.svg()), ("dot", graph.dot()), ("mmd", graph.mermaid())] {
        std::fs::write(folder.join(format!("{file}.{ending}")), text).unwrap();
    }
    graph.svg()
}

#[test]
fn everything_is_in_the_picture() {
    for (file, plan) in [("web", web()), ("everything", everything()), ("twenty", twenty())] {
        let svg = draw(file, &plan);
        for layer in &plan.layers {
            assert!(svg.contains(&format!(">{}", layer.name)), "{file}: {}", layer.name);
        }
        for channel in &plan.channels {
            assert!(svg.contains(&format!(">{}<", channel.name)), "{file}: {}", channel.name);
        }
        assert!(svg.contains(&plan.id().unwrap().short()));
        assert!(svg.contains("prefers-color-scheme:dark"));
    }
}

/// Every tag that is opened is closed, in order, and attributes are quoted.
fn well_formed(svg: &str) {
    let mut open: Vec<&str> = Vec::new();
    for piece in svg.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').unwrap();
        assert!(!text.contains('>'), "{text}");
        for entity in text.split('&').skip(1) {
            let name = entity.split(';').next().unwrap();
            assert!(["amp", "lt", "gt", "quot", "#39"].contains(&name), "&{name};");
        }
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed));
        } else if !tag.ends_with('/') {
            open.push(tag.split([' ', '\n']).next().unwrap());
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn pictures_are_well_formed_whatever_is_in_the_policy() {
    let hostile = plan(
        r#"
        cofferdam = 1
        name = "hostile"
        [layer.a]
        exec = ["/bin/sh", "</svg><script>alert(1)</script>", "\u001b[2J\u202e", "a\"];b"]
        [layer.b]
        run = "b"
        [file.f]
        path = "/srv/<b onload='x'>&amp;\"]"
        grant = { a = ["read"], b = ["read"] }
    "#,
    );
    for (file, plan) in [("hostile", hostile), ("everything", everything()), ("twenty", twenty())] {
        let svg = draw(file, &plan);
        well_formed(&svg);
        assert!(!svg.contains("<script") && !svg.contains("<b "), "{file}");
        assert!(!svg.contains(['\u{1b}', '\u{202e}']), "{file}");
    }
}

#[test]
fn each_kind_has_its_shape_and_words() {
    let svg = draw("everything", &everything());
    for words in [
        "channel.sign: front to keeper, sealed",
        "signal.reload: logic to front",
        "pipe.raw: logic to convert",
        "queue.jobs",
        "fifo.operator",
        "semaphore.bus-slots",
        "region.values",
        "mapped-file.counters",
        "listen.front.https",
        "connect.bus.plc",
        "← event ≤64KiB",
        "HUP USR1",
        "1 capability",
        "exec jq",
        "never: front never reaches file.key, except through keeper",
    ] {
        assert!(svg.contains(words), "{words}");
    }
    for legend in ["sealed channel", "shared memory", "named pipe", "mapped file", "connects to"] {
        assert!(svg.contains(&format!(">{legend}<")), "{legend}");
    }
}

#[test]
fn pictures_are_always_the_same() {
    assert_eq!(draw("twice", &everything()), draw("twice", &everything()));
}

/// The largest sensible policy, and one that is larger: no picture takes for ever.
#[test]
fn large_policies_are_drawn() {
    let mut text = "cofferdam = 1\nname = \"large\"\n".to_owned();
    for at in 0..120 {
        let _ = write!(text, "[layer.l{at}]\nrun = \"l\"\nsyscalls = [\"@core\"]\n");
    }
    for at in 0..600 {
        let (from, to) = (at * 7 % 120, (at * 13 + 1) % 120);
        if from != to {
            let _ = write!(text, "[channel.c{at}]\nfrom = \"l{from}\"\nto = \"l{to}\"\n");
        }
    }
    well_formed(&draw("large", &plan(&text)));
}

#[test]
fn graphviz_reads_the_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("everything.dot");
    let plan = everything();
    let ways = Ways::of(&plan);
    let text = Graph::new(&plan, &|layer| exposure(layer, &ways).score).dot();
    assert_eq!(text.matches('{').count(), text.matches('}').count());
    std::fs::write(&path, text).unwrap();
    let Ok(output) = Command::new("dot").arg("-Tplain").arg(&path).output() else {
        // Other machines have no Graphviz.
        return;
    };
    assert!(output.status.success(), "{output:?}");
}

fn graph(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cofferdam")).arg("graph").args(arguments).output().unwrap()
}

#[test]
fn the_verb_writes_each_format() {
    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/web.toml");
    let policy = policy.to_str().unwrap();
    for (format, begins) in [("svg", "<svg "), ("dot", "digraph "), ("mermaid", "---\ntitle: web")]
    {
        let output = graph(&[policy, "--format", format]);
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8(output.stdout).unwrap().starts_with(begins), "{format}");
    }
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("web.svg");
    let output = graph(&[policy, "-o", file.to_str().unwrap()]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
    well_formed(&std::fs::read_to_string(file).unwrap());
}

#[test]
fn exit_codes_are_those_of_the_contract() {
    let place = tempfile::tempdir().unwrap();
    let bad = place.path().join("bad.toml");
    std::fs::write(&bad, "cofferdam = 1\nname = \"a\"\n[layer.b]\nrnu = \"b\"\n").unwrap();
    let output = graph(&[bad.to_str().unwrap()]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    assert!(String::from_utf8(output.stderr).unwrap().contains("E0107"));
    assert_eq!(graph(&["/nowhere.toml"]).status.code(), Some(3));
    assert_eq!(graph(&[]).status.code(), Some(2));
    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/web.toml");
    let output = graph(&[policy.to_str().unwrap(), "-o", "/nowhere/web.svg"]);
    assert_eq!(output.status.code(), Some(3));
}

/// The tips of the heads in a picture.
fn heads(picture: &str) -> Vec<(f64, f64)> {
    let tip = |path: &str| {
        let (x, rest) = path.strip_prefix('M')?.split_once(' ')?;
        Some((x.parse().ok()?, rest.split_once('L')?.0.parse().ok()?))
    };
    picture.split("head\" d=\"").skip(1).filter_map(tip).collect()
}

#[test]
fn heads_at_one_box_stand_apart() {
    let mut text = "cofferdam = 1\nname = \"crowd\"\n".to_owned();
    let mut senders = Vec::new();
    for number in 0..20 {
        let _ = write!(text, "[layer.a{number}]\nrun = \"a\"\nsyscalls = [\"@core\"]\n");
        senders.push(format!("\"a{number}\""));
    }
    let _ = write!(
        text,
        "[layer.log]\nrun = \"log\"\nsyscalls = [\"@core\"]\n[queue.lines]\nsend = [{}]\n\
         receive = [\"log\"]\ndepth = 10\nmax = \"1KiB\"\n",
        senders.join(", ")
    );
    let plan = plan(&text);
    let picture = Graph::new(&plan, &|_| 1.0).svg();
    let heads = heads(&picture);
    assert!(heads.len() > 20, "{heads:?}");
    for (at, (x, y)) in heads.iter().enumerate() {
        let close =
            |(other, beside): &&(f64, f64)| (x - other).abs() < 1.0 && (y - beside).abs() < 9.0;
        assert!(heads[..at].iter().find(close).is_none(), "{x} {y} in {heads:?}");
    }
}

#[test]
fn lines_end_at_the_last_copy_of_a_layer() {
    let text = "cofferdam = 1\nname = \"copies\"\n[layer.work]\nrun = \"work\"\ninstances = 8\n\
                syscalls = [\"@core\"]\n[file.key]\npath = \"/etc/key\"\n\
                grant = { work = [\"read\"] }\n";
    let picture = Graph::new(&plan(text), &|_| 1.0).svg();
    // Its node begins at the left edge, where the drawing's own coordinates begin.
    let width = |part: &str| -> f64 {
        part.split_once("width=\"").unwrap().1.split('"').next().unwrap().parse().unwrap()
    };
    let copy =
        picture.split("<rect class=\"box e0\"").find(|part| part.starts_with(" x=\"8\"")).unwrap();
    let right = 8.0 + width(copy);
    let heads = heads(&picture);
    assert!(heads.iter().any(|(x, _)| (x - right).abs() < 0.2), "{right}: {heads:?}");
}
