//! The example `hmi`: operated by real clients, and attacked by a screen that somebody has taken over.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::support::example;
use crate::support::harness::Daemon;
use crate::support::process::{directory, eventually, write_policy};

/// The simulated plant.
pub(crate) struct Plant {
    process: Child,
    address: String,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Plant {
    pub(crate) fn start() -> Self {
        let mut process = Command::new(example("hmi"))
            .args(["plant", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut first).unwrap();
        let address = first.trim().strip_prefix("plant: tcp:").unwrap().to_owned();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (told, stderr) = (Arc::clone(&lines), process.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                told.lock().unwrap().push(line);
            }
        });
        Self { process, address, lines }
    }

    /// What an actuator was set to, one after the other.
    fn moves(&self, actuator: &str) -> Vec<u16> {
        let start = format!("plant: {actuator} ");
        let lines = self.lines.lock().unwrap();
        lines
            .iter()
            .filter_map(|it| it.strip_prefix(&start))
            .map(|it| it.parse().unwrap())
            .collect()
    }

    pub(crate) fn said(&self, text: &str) -> bool {
        self.lines.lock().unwrap().iter().any(|line| line.contains(text))
    }

    /// Its registers, as another Modbus client reads them.
    pub(crate) fn registers(&self, kind: &str, count: u16) -> Vec<u16> {
        let (host, port) = self.address.rsplit_once(':').unwrap();
        let output = Command::new("mbpoll")
            .args(["-m", "tcp", "-p", port, "-t", kind, "-r", "1", "-c", &count.to_string()])
            .args(["-1", "-q", host])
            .output()
            .expect("mbpoll");
        let text = String::from_utf8(output.stdout).unwrap();
        let values = text.lines().filter(|line| line.starts_with('['));
        let read = |line: &str| line.rsplit(':').next().unwrap().trim().to_owned();
        // What looks negative is told in both ways, as in `65535 (-1)`.
        values.map(|it| read(it).split(' ').next().unwrap().parse().unwrap()).collect()
    }
}

impl Plant {
    /// Writes a holding register, from 1, past everybody: somebody is at the field itself.
    pub(crate) fn write(&self, register: u16, value: u16) {
        let (host, port) = self.address.rsplit_once(':').unwrap();
        let script = "from pymodbus.client import ModbusTcpClient; import sys\n\
                      client = ModbusTcpClient(sys.argv[1], port=int(sys.argv[2])); client.connect()\n\
                      answer = client.write_register(int(sys.argv[3]) - 1, int(sys.argv[4]), 1)\n\
                      sys.exit(answer.isError())";
        // Where the distribution's packages are seen.
        let done = Command::new("/usr/bin/python3")
            .args(["-c", script, host, port, &register.to_string(), &value.to_string()])
            .status()
            .expect("python3");
        assert!(done.success());
    }
}

impl Drop for Plant {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The example, or another program with its layers, at a plant; and the screen's address.
pub(crate) fn start(program: &str, plant: &Plant, policy: &str) -> (Daemon, String) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let directory = directory();
    let place = directory.path();
    fs::create_dir(place.join("archive")).unwrap();
    write_policy(place, policy);
    let operators = place.join("operators");
    fs::write(&operators, "ann:operator:1234\nvic:viewer:5678\n").unwrap();
    let mut command = Command::new(example(program));
    command.arg("--policy").arg(write_policy(place, policy));
    let path = |name: &str| place.join(name).to_str().unwrap().to_owned();
    for (name, value) in [
        ("controller", format!("tcp:{}", plant.address)),
        ("screen", format!("tcp:{free}")),
        ("operators", path("operators")),
        ("archive", path("archive")),
        ("setpoints", path("setpoints")),
        ("log", path("log")),
    ] {
        command.arg("--var").arg(format!("{name}={value}"));
    }
    (Daemon::run(command, directory), format!("http://{free}"))
}

/// What curl gets: the status, and the answer.
fn post(url: &str, session: &str, body: &Value) -> (u16, String) {
    let output = Command::new("curl")
        .args(["-sS", "-m", "30", "-w", "\n%{http_code}", "-H", "content-type: application/json"])
        .args(["-H", &format!("x-session: {session}"), "-d", &body.to_string(), url])
        .output()
        .expect("curl");
    let text = String::from_utf8(output.stdout).unwrap();
    let (answer, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), answer.trim().to_owned())
}

fn log_in(url: &str, name: &str, code: &str) -> String {
    let (status, answer) = post(&format!("{url}/log-in"), "", &json!({"name": name, "code": code}));
    assert_eq!(status, 200, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    answer["session"].as_str().unwrap().to_owned()
}

/// What came of a request: `None` is yes.
fn set(url: &str, session: &str, number: u64, actuator: &str, value: u16) -> Option<String> {
    let body = json!({"number": number, "actuator": actuator, "value": value});
    let (status, answer) = post(&format!("{url}/set"), session, &body);
    assert_eq!(status, 200, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    answer["refused"].as_str().map(str::to_owned)
}

/// The newest picture that the screen shows.
pub(crate) fn picture(url: &str) -> Value {
    let output = Command::new("sh")
        .args(["-c", "curl -sSN -m 30 \"$0\" | head -n 1", &format!("{url}/live")])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(text.strip_prefix("data: ").unwrap()).unwrap()
}

fn events(directory: &Path) -> String {
    fs::read_to_string(directory.join("archive/events.jsonl")).unwrap_or_default()
}

fn kill(daemon: &mut Daemon, instance: &str) {
    kill_process(daemon.confined(instance), Signal::KILL).unwrap();
}

#[test]
fn operators_run_the_plant_within_its_limits() {
    let plant = Plant::start();
    let (mut daemon, url) = start("hmi", &plant, include_str!("../../policies/hmi.toml"));
    daemon.confined("screen/0.g1");
    eventually("the picture is live", || picture(&url)["image"]["level"].as_u64() == Some(4000));

    let (status, why) = post(&format!("{url}/log-in"), "", &json!({"name": "ann", "code": "no"}));
    assert_eq!((status, why.contains("no such name")), (403, true), "{why}");
    let ann = log_in(&url, "ann", "1234");
    assert_eq!(set(&url, &ann, 1, "pump", 200), None);
    let refused = set(&url, &ann, 2, "pump", 900).unwrap();
    assert_eq!(refused, "the pump goes to 80.0 % at most");
    assert_eq!(set(&url, &ann, 3, "valve", 150), None);
    // Another client sees it in the field, and the screen in the picture.
    assert_eq!(plant.registers("4", 3), [200, 150, 0]);
    eventually("it is shown", || picture(&url)["image"]["set"] == json!([200, 150, 0]));
    let vic = log_in(&url, "vic", "5678");
    assert_eq!(set(&url, &vic, 1, "pump", 0).unwrap(), "vic may look, and set nothing");
    // Who has no session sets nothing at all.
    let body = json!({"number": 9, "actuator": "pump", "value": 0});
    assert_eq!(post(&format!("{url}/set"), "", &body).0, 401);
    assert_eq!(post(&format!("{url}/set"), &"0".repeat(32), &body).0, 403);
    assert_eq!(post(&format!("{url}/set"), &ann, &json!({"value": 1})).0, 400);

    // Who asked for what, and what came of it.
    let directory = daemon.directory().to_owned();
    eventually("the archive", || events(&directory).contains("vic may look"));
    let archive = events(&directory);
    assert!(archive.contains("set the pump to 20.0 %"), "{archive}");
    assert!(archive.contains("was refused to set the pump to 90.0 %"), "{archive}");

    // A stop in order switches everything off before the gateway ends.
    daemon.stop();
    assert_eq!(plant.registers("4", 3), [0, 0, 0]);
    assert!(!plant.said("harm"));
}

#[test]
fn what_dies_leaves_the_plant_safe() {
    let plant = Plant::start();
    let (mut daemon, url) = start("hmi", &plant, include_str!("../../policies/hmi.toml"));
    daemon.confined("screen/0.g1");
    eventually("the picture is live", || picture(&url)["image"]["level"].as_u64() == Some(4000));
    let ann = log_in(&url, "ann", "1234");
    assert_eq!(set(&url, &ann, 1, "pump", 200), None);
    // The screen can be killed at will: the plant goes on, and so does an operator who has a token.
    kill(&mut daemon, "screen/0.g1");
    daemon.confined("screen/0.g2");
    assert_eq!(plant.registers("4", 1), [200]);
    // Each request counts once, also if its answer is lost.
    let mut number = 1;
    eventually("the screen is back", || {
        number += 1;
        let body = json!({"number": number, "actuator": "pump", "value": 150});
        let (status, answer) = post(&format!("{url}/set"), &ann, &body);
        status == 200 && answer.contains("\"refused\":null")
    });
    assert_eq!(plant.registers("4", 1), [150]);
    // The last set points survive the interlock; its sessions don't.
    kill(&mut daemon, "interlock/0.g1");
    daemon.confined("interlock/0.g2");
    let welcome = |_| {
        let body = json!({"name": "ann", "code": "1234"});
        let (status, answer) = post(&format!("{url}/log-in"), "", &body);
        (status == 200).then(|| serde_json::from_str::<Value>(&answer).unwrap())
    };
    let welcome = (0..100).find_map(welcome).expect("nobody is let in");
    assert_eq!(welcome["last"], json!([150, 0, 0]));
    let body = json!({"number": number + 1, "actuator": "pump", "value": 0});
    assert_eq!(post(&format!("{url}/set"), &ann, &body).0, 403);
    // Without a supervisor everything ends, and the controller does the rest by itself.
    daemon.signal(Signal::KILL);
    eventually("shut off", || plant.registers("4", 1) == [0]);
    assert!(plant.said("everything is shut off"));
    assert!(!plant.said("harm"));
}

#[test]
fn a_screen_that_was_taken_over_moves_nothing_past_the_limits() {
    let plant = Plant::start();
    // Its lives are many, and short.
    let patient = "restart  = { on = \"always\", max = 100, within = \"1s\", backoff = \"10ms\" }";
    let policy = include_str!("../../policies/hmi.toml").replace(
        "restart  = { on = \"always\", max = 30, within = \"1m\", then = \"leave-down\" }\nhealth",
        &format!("{patient}\nhealth"),
    );
    assert!(policy.contains(patient));
    let (mut daemon, _) = start("hostile_screen", &plant, &policy);
    daemon.line_in("ALL TRIED", std::time::Duration::from_mins(3));
    let said = daemon.seen.join("\n");
    let tried: Vec<&str> = said.lines().filter(|line| line.contains("TRIED ")).collect();
    assert!(!said.contains("WORKED"), "{said}");
    for name in [
        "past the limit",
        "all that a number can hold",
        "the heater past its limit",
        "too much at once",
        "again at once",
        "the same request again",
        "nobody's token",
        "the largest number, and then all others",
        "one who may only look",
        "a viewer in another's name",
        "a guessed code",
        "no code",
        "bytes that are no request",
        "an actuator that isn't there",
        "a method that isn't there",
        "too large a request",
        "a descriptor",
        "an alarm seen by nobody",
        "the interlock's channel to the gateway",
        "the acknowledgements' channel",
        "another picture of the plant",
        "an empty list of alarms",
        "the set points of the disk",
        "the lease on the actuators",
        "the archive",
        "the operators' codes",
        "the historian's queue",
        "a signal",
        "a connection to the controller",
        "the picture's memory, to write",
        "harm, seen in the picture",
        "a file of the host",
        "to take no answers",
        "to fill the tank",
        "a flood",
    ] {
        let line = format!("TRIED {name}: ");
        assert!(tried.iter().any(|it| it.contains(&line)), "{name}: {said}");
    }
    // Of what the kernel ended it for, each by its name, and told as that.
    let deadly: Vec<&str> = said.lines().filter(|line| line.contains("TRYING ")).collect();
    assert_eq!(deadly.len(), 17, "{said}");
    let killed = said.lines().filter(|line| line.contains("SIGSYS")).count();
    assert!(killed >= 17, "{killed}: {said}");

    // Nobody else ended for it, and it killed nobody.
    for layer in ["interlock", "gateway", "alarm-logic", "historian"] {
        assert!(!said.contains(&format!("{layer}/0.g2")), "{layer}: {said}");
    }

    // Whatever it did, the plant took no harm, and every move was within its limits.
    let (pump, heater) = (plant.moves("pump"), plant.moves("heater"));
    assert!(pump.iter().any(|it| *it >= 600), "nothing was moved at all: {pump:?}");
    assert!(pump.iter().all(|it| *it <= 800), "{pump:?}");
    assert!(heater.iter().all(|it| *it <= 600), "{heater:?}");
    for moves in [&pump, &heater] {
        assert!(moves.windows(2).all(|it| it[1] <= it[0].saturating_add(200)), "{moves:?}");
    }
    assert!(!plant.said("harm"), "{:?}", plant.lines.lock().unwrap());

    // Who, what, and the verdict are in the archive, and both ends' reports in the audit log.
    let directory = daemon.directory().to_owned();
    let archive = events(&directory);
    assert!(archive.contains("was refused to set the pump to 80.1 %"), "{archive}");
    daemon.stop();
    let query = Command::new(env!("CARGO_BIN_EXE_cofferdam"))
        .args(["audit", "query", "--edge", "channel.requests"])
        .arg(directory.join("log"))
        .output()
        .unwrap();
    let records = String::from_utf8(query.stdout).unwrap();
    assert!(records.contains("request set"), "{records}");
    let verify = Command::new(env!("CARGO_BIN_EXE_cofferdam"))
        .args(["audit", "verify"])
        .arg(directory.join("log"))
        .output()
        .unwrap();
    assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stdout));
}
