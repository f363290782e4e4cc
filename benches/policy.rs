//! What a large policy costs: 50 layers, 500 grants.
//!
//! `checking` is everything from bytes to the filters of every layer, as `run` does before its
//! first fork; the goal is 50 ms. `asking` and `comparing` are `can` and `diff`, each without
//! the checking before it; the goal is 20 ms. `cargo bench --bench policy`.

use std::fmt::Write;

use cofferdam::confine::filter::{Arch, compile};
use cofferdam::policy::check;
use cofferdam::policy::plan::Plan;
use cofferdam::review::can::can;
use cofferdam::review::diff::diff;
use divan::{Bencher, black_box};

fn main() {
    let plan = plan();
    assert_eq!(plan.layers.len(), LAYERS);
    assert!(grants(&plan) >= 500, "{} grants", grants(&plan));
    divan::main();
}

const LAYERS: usize = 50;

/// Layers in five tiers: each calls into the next one, shares memory with its neighbour, has
/// files, a queue and a signal, and what it must never reach.
fn text() -> String {
    let mut text =
        String::from("cofferdam = 1\nname = \"large\"\n[vars]\ndata = \"/var/lib/large\"\n");
    for n in 0..LAYERS {
        let syscalls = match n % 5 {
            0 => r#""@core", "@net-stream", "@time""#,
            1 => r#""@core", "@file-read", "@thread""#,
            2 => r#""@core", "@file-read", "@file-write", "ioctl(_, in {FIONREAD, TCGETS})""#,
            3 => r#""@core", "@shared-memory", "@file-read""#,
            _ => r#""@core", "@file-read", "@process", "@time", "mprotect""#,
        };
        let _ = write!(
            text,
            "[layer.l{n}]\nrun = \"l{n}\"\nsyscalls = [{syscalls}]\nbecause = \"a bench\"\n\
             refuse = {{ uname = \"EPERM\", mount = \"EPERM\" }}\noptional = [\"cgroup\"]\n\
             limits = {{ memory = \"64MiB\", files = 128, tasks = 8 }}\n"
        );
        if n % 5 == 0 {
            let _ = writeln!(text, "listen = {{ s{n} = \"tcp:127.0.0.1:{}\" }}", 10_000 + n);
        }
        if n % 5 == 4 {
            let _ = writeln!(text, "connect = {{ c{n} = \"tcp:192.0.2.1:{}\" }}", 20_000 + n);
        }
    }
    for n in 0..LAYERS {
        let (near, far) = ((n + 1) % LAYERS, (n + 7) % LAYERS);
        // Calls go one way only, or they would wait for each other in a circle.
        for (kind, to) in [("a", n + 1), ("b", n + 10)] {
            if to < LAYERS {
                let _ = write!(
                    text,
                    "[channel.{kind}{n}]\nfrom = \"l{n}\"\nto = \"l{to}\"\nmax = \"64KiB\"\n\
                     [channel.{kind}{n}.methods]\nhello = {{ once = true }}\n\
                     ask = {{ max = \"4KiB\", rate = \"100/s\", after = \"hello\" }}\n"
                );
            }
        }
        let _ = write!(
            text,
            "[file.f{n}]\npath = \"${{data}}/{n}\"\n\
             grant = {{ l{n} = [\"read\", \"list\"], l{far} = [\"read\"] }}\n\
             [region.r{n}]\nsize = \"64KiB\"\ngrant = {{ l{n} = \"rw\", l{near} = \"r\" }}\n\
             [queue.q{n}]\nsend = [\"l{n}\"]\nreceive = [\"l{near}\"]\ndepth = 8\nmax = \"1KiB\"\n\
             [signal.s{n}]\nfrom = \"l{n}\"\nto = \"l{near}\"\nsend = [\"HUP\"]\nrate = \"5/s\"\n"
        );
    }
    for n in 0..10 {
        // Both who hold the file, so it is so; to find out takes looking at every way.
        let (holder, other) = (n * 5, (n * 5 + 7) % LAYERS);
        let _ = write!(
            text,
            "[[never]]\nlayer = \"l{}\"\nreach = \"file.f{holder}\"\n\
             through-except = [\"l{holder}\", \"l{other}\"]\nwhy = \"a bench\"\n",
            (holder + 20) % LAYERS
        );
    }
    text
}

/// Who may do what on which object, counted once each.
fn grants(plan: &Plan) -> usize {
    let facilities = &plan.facilities;
    let layers = plan.layers.iter().map(|layer| layer.listen.len() + layer.connect.len());
    layers.sum::<usize>()
        + 2 * plan.channels.len()
        + plan.files.iter().flat_map(|file| file.grant.values()).map(Vec::len).sum::<usize>()
        + facilities.regions.iter().map(|region| region.grant.len()).sum::<usize>()
        + facilities.queues.iter().map(|it| it.send.len() + it.receive.len()).sum::<usize>()
        + 2 * facilities.signals.len()
}

fn plan() -> Plan {
    let checked = check("large.toml", text().as_bytes());
    checked.plan.as_ref().unwrap_or_else(|| panic!("{}", checked.render(false))).clone()
}

#[divan::bench]
fn checking(bencher: Bencher<'_, '_>) {
    let text = text();
    bencher.bench_local(|| {
        let plan = check("large.toml", black_box(text.as_bytes())).plan.unwrap();
        let filters: Vec<_> = plan
            .layers
            .iter()
            .map(|layer| compile(&layer.syscalls, Arch::NATIVE).unwrap())
            .collect();
        (plan.id().unwrap(), filters)
    });
}

/// The part of `checking` that is the filters.
#[divan::bench]
fn filters(bencher: Bencher<'_, '_>) {
    let plan = plan();
    bencher.bench_local(|| {
        let compiled = |layer: &cofferdam::policy::plan::LayerPlan| {
            compile(black_box(&layer.syscalls), Arch::NATIVE).unwrap()
        };
        plan.layers.iter().map(compiled).collect::<Vec<_>>()
    });
}

/// What a person waits for after a slip of the pen.
#[divan::bench]
fn a_mistake(bencher: Bencher<'_, '_>) {
    let text = text().replacen("from = \"l1\"", "from = \"l_1\"", 1);
    bencher.bench_local(|| {
        let checked = check("large.toml", black_box(text.as_bytes()));
        assert!(checked.plan.is_none());
        checked.render(false)
    });
}

/// `can l3 read file.f40`: through how many hands?
#[divan::bench]
fn asking(bencher: Bencher<'_, '_>) {
    let plan = plan();
    bencher.bench_local(|| can(black_box(&plan), "l3", "read", "file.f40").unwrap());
}

/// A channel and a call more.
#[divan::bench]
fn comparing(bencher: Bencher<'_, '_>) {
    let old = plan();
    let text = text().replacen("\"@time\"", "\"@time\", \"umask\"", 1)
        + "[channel.new]\nfrom = \"l2\"\nto = \"l44\"\nmethods = [\"ask\"]\n";
    let checked = check("larger.toml", text.as_bytes());
    let new = checked.plan.as_ref().unwrap_or_else(|| panic!("{}", checked.render(false)));
    bencher.bench_local(|| diff(black_box(&old), black_box(new)));
}
