//! The example `web` under attack from outside: parsers are killed. What
//! is in whose memory is looked at in `tests/confinement/secrecy.rs`.

use std::fs;
use std::process::Command;

use crate::support::web::{Web, eventually, noise};
use rustix::process::{Signal, kill_process};

const MIB: usize = 1 << 20;

#[test]
fn killing_a_parser_costs_its_own_connections_only() {
    let web = Web::demo();
    // With two of the framework's own.
    eventually("all layers run", || web.layers().len() == 6);
    // More than the kernel's buffers take, so that every download still needs its parser.
    let bytes = noise(32 * MIB);
    web.put("large", &bytes);
    let mut downloads: Vec<_> = (0..8)
        .map(|number| {
            let target = web.scratch(&format!("download-{number}"));
            let mut curl = web.curl("/large");
            curl.args(["--limit-rate", "12M", "--output"]).arg(&target);
            (curl.spawn().unwrap(), target)
        })
        .collect();
    eventually("all downloads run", || {
        downloads.iter().all(|(_, target)| fs::metadata(target).is_ok_and(|file| file.len() > 0))
    });

    let (first, victim) = web.layer("parser/0").unwrap();
    let neighbour = web.layer("parser/1").unwrap();
    kill_process(victim, Signal::KILL).unwrap();
    // Somebody serves at once, and goes on to.
    for _ in 0..20 {
        assert_eq!(web.get("/", &[]).status, "200");
    }
    eventually("it is back, in its next life", || {
        web.layer("parser/0").is_some_and(|(title, _)| title != first)
    });

    let finished = downloads
        .iter_mut()
        .filter_map(|(curl, target)| curl.wait().unwrap().success().then_some(target))
        .inspect(|target| assert!(fs::read(target).unwrap() == bytes))
        .count();
    assert!((1..8).contains(&finished), "{finished} of 8 downloads finished");
    assert_eq!(web.layer("parser/1").unwrap(), neighbour);
    assert_eq!(web.get("/", &[]).status, "200");
}

/// The load of the README, smaller, while a parser is killed again and again.
#[test]
fn under_load_only_what_was_in_flight_is_lost() {
    const CONNECTIONS: usize = 16;
    let web = Web::demo();
    // With two of the framework's own.
    eventually("all layers run", || web.layers().len() == 6);
    let program = std::env::current_exe().unwrap();
    let program = program.parent().unwrap().with_file_name("examples").join("web_load");
    let certificate = web.certificate.as_ref().unwrap();
    let kills = 6;
    let mut load = Command::new(program)
        .arg("--cacert")
        .arg(certificate)
        .args(["--requests", "20000", "--connections", &CONNECTIONS.to_string()])
        .args(["--may-lose", &(kills * CONNECTIONS).to_string()])
        .arg(format!("https://localhost:{}/", web.address.port()))
        .spawn()
        .unwrap();
    for kill in 0..kills {
        let copy = format!("parser/{}", kill % 2);
        let mut victim = None;
        eventually("there is one to kill", || {
            victim = web.layer(&copy);
            victim.is_some()
        });
        kill_process(victim.unwrap().1, Signal::KILL).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(150));
        if load.try_wait().unwrap().is_some() {
            break;
        }
    }
    assert!(load.wait().unwrap().success(), "{}", web.log());
}
