//! An independent witness: the kernel, asked by `strace`, counts what each layer sent.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::audit::entry::{Form, Side};
use cofferdam::ipc::fifo::Event;
use rustix::process::{Pid, Signal, kill_process};

use super::layers::{policy, say, stay};
use super::log::{alarms, assert_sound, assert_two_sided, count, lost, records};
use super::{Outcome, Test};
use crate::harness::Daemon;

pub(crate) const TESTS: &[Test] =
    &[("strace::the_kernel_saw_each_message_that_the_log_has", witnessed)];

/// A message's length, which no other message of the daemon has.
const LENGTH: usize = 7_777;
/// More than a sealed record has around a message.
const AROUND: usize = 100;

/// Makes as many calls as a line of its named pipe says.
pub(crate) fn counted(layer: Layer) -> Outcome {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let channel = layer.channel("c").map_err(|e| text(&e))?.blocking();
    let mut orders = layer.fifo("orders").map_err(|e| text(&e))?;
    channel.wait_for_peer(None).map_err(|e| text(&e))?;
    say("ready");
    let Event::Line(line) = orders.blocking().next().map_err(|e| text(&e))? else {
        return Err("no line came".to_owned());
    };
    let calls: u32 = line.text().map_err(|e| text(&e))?.trim().parse().map_err(|_| "a number")?;
    for _ in 0..calls {
        channel.call("").send(vec![7; LENGTH]).map_err(|e| text(&e))?;
    }
    say("all said");
    stay(&layer)
}

/// Has `strace` write down what these processes send; `None` where it may not: it takes root, and
/// a system that lets root look (`ptrace(2)`).
fn attach(out: &std::path::Path, processes: &[Pid]) -> Option<Child> {
    let mut command = Command::new("strace");
    command.args(["-f", "-e", "trace=sendmsg,sendmmsg,sendto,write,writev", "-s", "0", "-o"]);
    command.arg(out);
    for process in processes {
        command.args(["-p", &process.as_raw_nonzero().to_string()]);
    }
    let Ok(mut child) = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn() else {
        assert!(std::env::var_os("CI").is_none(), "strace is missing: .ci/run installs it");
        return None;
    };
    let mut told = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let is_attached = |line: String| line.contains("attached") && !line.contains("ptrace(");
    if processes.iter().all(|_| told.next().is_some_and(is_attached)) {
        return Some(child);
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

fn witnessed() {
    // One hundred thousand messages, there and back.
    let calls = if std::env::var_os("COFFERDAM_LONG").is_some() { 50_000 } else { 200 };
    let fifo = "[fifo.orders]\npath = \"DIR/orders\"\nto = \"a\"";
    let mut daemon = Daemon::start("-", &(policy("counted", "listener", "", "") + fifo));
    let processes = [daemon.confined("a/0.g1"), daemon.confined("b/0.g1")];
    daemon.line("ready");
    let trace = daemon.directory().join("trace");
    let Some(mut strace) = attach(&trace, &processes) else {
        let _ = writeln!(std::io::stderr(), "strace may not attach here: the kernel isn't asked");
        return;
    };
    fs::write(daemon.directory().join("orders"), format!("{calls}\n")).unwrap();
    daemon.line_in("all said", Duration::from_mins(30));
    // It writes what it has, and lets go of the layers.
    kill_process(Pid::from_child(&strace), Signal::INT).unwrap();
    strace.wait().unwrap();
    assert_eq!(daemon.stop(), Some(0), "{daemon}");

    let trace = fs::read_to_string(&trace).unwrap();
    let sent = |process: Pid| {
        let number = process.as_raw_nonzero().to_string();
        let of_process = |line: &&str| line.split(' ').next() == Some(&number);
        let length = |line: &str| line.rsplit(" = ").next()?.trim().parse::<usize>().ok();
        let lengths = trace.lines().filter(of_process).filter_map(length);
        lengths.filter(|length| (LENGTH..LENGTH + AROUND).contains(length)).count() as u64
    };
    assert_eq!(processes.map(sent), [calls; 2], "what strace saw each layer send");

    let log = daemon.directory().join("log");
    assert_sound(&log);
    let records = records(&log);
    assert_two_sided(&records);
    for side in [Side::Sender, Side::Receiver] {
        assert_eq!(count(&records, side, Form::Request), calls);
        assert_eq!(count(&records, side, Form::Reply), calls);
    }
    assert_eq!((alarms(&records), lost(&records)), (Vec::new(), 0));
}
