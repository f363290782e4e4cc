//! Exports: profiles judged call by call against the plan, units read by systemd where there is
//! one.

use std::path::Path;
use std::process::{Command, Output};

use cofferdam::policy::check;
use cofferdam::policy::plan::{Compare, LayerPlan, Plan, SyscallPlan};
use cofferdam::policy::syscall::meaning::permits;
use cofferdam::policy::syscall::{all, errno, groups};
use cofferdam::review::export::{oci_seccomp, service_unit, systemd};
use serde_json::Value;

fn plan(text: &str) -> Plan {
    let checked = check("test.toml", text.as_bytes());
    checked.plan.as_ref().unwrap_or_else(|| panic!("{}", checked.render(false))).clone()
}

fn file(path: &str) -> Plan {
    plan(&std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap())
}

/// A layer with every group and every form of condition.
fn much() -> Plan {
    let groups: Vec<_> = groups().iter().map(|group| format!("\"@{}\"", group.name)).collect();
    plan(&format!(
        r#"
        cofferdam = 1
        name = "much"
        [layer.groups]
        run = "a"
        because = "a test"
        syscalls = [{}]
        [layer.conditions]
        run = "b"
        because = "a test"
        syscalls = [
            "dup(5)", "dup2(!= 5)", "dup3(< 5)", "pidfd_open(<= 5)", "kill(> 5)", "listen(_, >= 5)",
            "lseek(_, >= 4096)", "lseek(_, _, 2)", "ftruncate(3, < 100)", "ftruncate(!= 4, > 7)",
            "flock(in {{1, 2}}, & 4 == 4)", "ioctl(_, FIONREAD)", "getpid",
        ]
        refuse = {{ openat = "ENOENT", dup = "EBADF" }}
    "#,
        groups.join(", ")
    ))
}

/// What a profile answers, as libseccomp and container runtimes read it.
#[derive(Debug, PartialEq)]
enum Answer {
    Allow,
    Errno(u64),
    Kill,
}

fn ask(profile: &Value, name: &str, arguments: &[u64; 6]) -> Answer {
    assert_eq!(profile["defaultAction"], "SCMP_ACT_KILL_PROCESS");
    for entry in profile["syscalls"].as_array().unwrap() {
        if !entry["names"].as_array().unwrap().iter().any(|one| one == name) {
            continue;
        }
        let tests = entry["args"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut seen = [false; 6];
        let holds = tests.iter().all(|test| {
            let index = usize::try_from(test["index"].as_u64().unwrap()).unwrap();
            // Runtimes take several conditions on one argument for alternatives.
            assert!(!std::mem::replace(&mut seen[index], true), "{name}: argument {index} twice");
            let (value, two) =
                (test["value"].as_u64().unwrap(), test["valueTwo"].as_u64().unwrap());
            let argument = arguments[index];
            match test["op"].as_str().unwrap() {
                "SCMP_CMP_EQ" => argument == value,
                "SCMP_CMP_NE" => argument != value,
                "SCMP_CMP_LT" => argument < value,
                "SCMP_CMP_LE" => argument <= value,
                "SCMP_CMP_GT" => argument > value,
                "SCMP_CMP_GE" => argument >= value,
                "SCMP_CMP_MASKED_EQ" => argument & value == two,
                other => panic!("{other}"),
            }
        });
        if holds {
            return match entry["action"].as_str().unwrap() {
                "SCMP_ACT_ALLOW" => Answer::Allow,
                "SCMP_ACT_ERRNO" => Answer::Errno(entry["errnoRet"].as_u64().unwrap()),
                other => panic!("{other}"),
            };
        }
    }
    Answer::Kill
}

/// Arguments near every condition of a call, with and without high bits.
fn arguments(call: Option<&SyscallPlan>) -> Vec<[u64; 6]> {
    let mut all = vec![[0; 6], [u64::MAX; 6]];
    for condition in call.iter().flat_map(|call| &call.allow).flat_map(|rule| &rule.0) {
        let (Compare::Eq(value)
        | Compare::Ne(value)
        | Compare::Lt(value)
        | Compare::Le(value)
        | Compare::Gt(value)
        | Compare::Ge(value)
        | Compare::Masked { value, .. }) = condition.compare;
        let at = usize::from(condition.argument);
        for near in [value.wrapping_sub(1), value, value.wrapping_add(1), value ^ 0x4000_0000] {
            for high in [0, 1 << 32, 1 << 63] {
                // Beside what the other conditions ask for.
                for before in all.clone().into_iter().take(400) {
                    let mut changed = before;
                    changed[at] = near | high;
                    all.push(changed);
                }
            }
            all.truncate(4000);
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// Compares a layer's profile with its plan, for every number. Returns how often it was narrower.
fn compare(plan: &Plan, layer: &LayerPlan) -> usize {
    let export = oci_seccomp(plan, layer);
    let mut narrower = 0;
    for (number, name) in all() {
        let call = layer.syscalls.iter().find(|call| call.number == number);
        let told = export.not_expressed.iter().any(|line| line.starts_with(&format!("{name}:")));
        for arguments in arguments(call) {
            let answer = ask(&export.value, name, &arguments);
            let wanted = match call {
                Some(call) if permits(call, &arguments) => Answer::Allow,
                Some(SyscallPlan { otherwise: Some(errno), .. }) => Answer::Errno((*errno).into()),
                _ => Answer::Kill,
            };
            if answer != wanted {
                assert!(
                    told && answer == Answer::Kill,
                    "{name} {arguments:x?}: {answer:?}, {wanted:?}"
                );
                narrower += 1;
            }
        }
    }
    narrower
}

#[test]
fn profiles_mean_what_the_plan_means() {
    for plan in [file("policies/web.toml"), file("tests/policies/good/every-key.toml"), much()] {
        for layer in &plan.layers {
            compare(&plan, layer);
        }
    }
}

#[test]
fn only_refusals_beside_conditions_are_narrower() {
    let plan = much();
    let layer = plan.layer("conditions").unwrap();
    assert!(compare(&plan, layer) > 0);
    let export = oci_seccomp(&plan, layer);
    let narrower: Vec<_> =
        export.not_expressed.iter().filter(|line| line.contains("the profile")).collect();
    assert!(narrower.iter().any(|line| line.starts_with("dup:") && line.contains("EBADF")));
    let refused = ask(&export.value, "openat", &[0; 6]);
    assert_eq!(refused, Answer::Errno(errno("ENOENT").unwrap().into()));
}

#[test]
fn a_high_bit_gets_past_no_mask() {
    let plan = much();
    let profile = oci_seccomp(&plan, plan.layer("conditions").unwrap()).value;
    let dup2 = |argument| ask(&profile, "dup2", &[argument, 0, 0, 0, 0, 0]);
    assert_eq!((dup2(5), dup2(5 | 1 << 32), dup2(6)), (Answer::Kill, Answer::Kill, Answer::Allow));
}

#[test]
fn units_say_what_the_plan_says() {
    let plan = file("tests/policies/good/every-key.toml");
    let unit = |name: &str| systemd(&plan, plan.layer(name).unwrap());
    let front = unit("front");
    for line in [
        "MemoryMax=67108864",
        "TasksMax=8",
        "CPUQuota=50%",
        "LimitNOFILE=64",
        "Restart=always",
        "CapabilityBoundingSet=",
        "MemoryDenyWriteExecute=yes",
        "NoNewPrivileges=yes",
        "PrivateNetwork=yes",
        "BindReadOnlyPaths=/srv/data",
        "ListenStream=127.0.0.1:8080",
        "ListenDatagram=127.0.0.1:8080",
        "ListenStream=/run/every-key.sock",
        "RestrictAddressFamilies=none",
    ] {
        assert!(front.value.lines().any(|own| own == line), "{line}\n{}", front.value);
    }
    let refused = "clone3 (ENOSYS)";
    assert!(front.not_expressed.iter().any(|line| line.contains(refused)));
    assert!(front.not_expressed.iter().any(|line| line.contains("openat (ENOENT)")));
    assert!(front.not_expressed.iter().any(|line| line.contains("channel ask, channel plain")));
    assert!(front.not_expressed.iter().any(|line| line.contains("64 instances")));
    let back = unit("back").value;
    for line in [
        "User=0",
        "MemoryDenyWriteExecute=no",
        "BindPaths=/srv/data",
        "CapabilityBoundingSet=CAP_CHECKPOINT_RESTORE CAP_NET_RAW",
    ] {
        assert!(back.lines().any(|own| own == line), "{line}\n{back}");
    }
    let filter = unit("filter").value;
    assert!(
        filter.contains("ExecStart=/usr/bin/jq . .\n") && filter.contains("Environment=EMPTY=\n")
    );
    // Everything that is missing is in the comments.
    for line in &front.not_expressed {
        assert!(front.value.contains(&format!("#  - {line}\n")), "{line}");
    }
}

#[test]
fn systemd_reads_the_units() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        // Other systems have no systemd.
        return;
    }
    let plan = file("tests/policies/good/every-key.toml");
    let place = tempfile::tempdir().unwrap();
    for layer in &plan.layers {
        let text = systemd(&plan, layer).value;
        let mut units = Vec::new();
        for part in text.split("\n# every-key-").skip(1) {
            let (name, unit) = part.split_once('\n').unwrap();
            let path = place.path().join(format!("every-key-{name}"));
            std::fs::write(&path, unit).unwrap();
            units.push(path);
        }
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no", "--generators=no"])
            .args(units.iter().filter(|unit| unit.extension().is_some_and(|e| e == "service")))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let about: Vec<_> = said.lines().filter(|line| line.contains("every-key-")).collect();
        // The program need not be installed here.
        let wrong: Vec<_> =
            about.iter().filter(|line| !line.contains("is not executable")).collect();
        assert!(wrong.is_empty(), "{}: {wrong:#?}\n{text}", layer.name);
    }
}

/// What is said of a unit by `systemd-analyze`, and its exposure in tenths.
fn analyzed(name: &str, text: &str) -> (String, u32) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join(format!("{name}.service"));
    std::fs::write(&path, text).unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new("systemd-analyze").args(arguments).arg(&path).output().unwrap();
        (String::from_utf8(output.stderr).unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let (said, _) = run(&["verify", "--man=no", "--generators=no"]);
    let about =
        said.lines().filter(|line| line.contains(name) && !line.contains("is not executable"));
    let (_, security) = run(&["security", "--offline=yes", "--no-pager"]);
    let level = security.lines().last().unwrap_or_default();
    let level = level.rsplit_once(": ").unwrap_or_else(|| panic!("{security}")).1;
    let digits: String = level.chars().filter(char::is_ascii_digit).collect();
    (about.collect::<Vec<_>>().join("\n"), digits.parse().unwrap())
}

#[test]
fn the_unit_of_a_daemon_is_read_and_not_exposed() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        // Other systems have no systemd.
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let foreign = std::fs::read_dir(root.join("policies/foreign")).unwrap();
    let names = foreign.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let own = ["web", "signer", "hmi"].map(|name| root.join(format!("policies/{name}.toml")));
    for policy in names.chain(own).filter(|path| path.extension().is_some_and(|it| it == "toml")) {
        let output =
            Command::new(env!("CARGO_BIN_EXE_cofferdam")).arg("unit").arg(&policy).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(0), "{}: {output:?}", policy.display());
        let text = String::from_utf8(output.stdout).unwrap();
        let (said, exposure) = analyzed("daemon", &text);
        assert_eq!(said, "", "{}\n{text}", policy.display());
        // Below 5.0 is what systemd-analyze(1) calls OK.
        assert!(exposure < 50, "{}: {exposure}\n{text}", policy.display());
    }
}

#[test]
fn a_unit_takes_nothing_that_a_layer_is_granted() {
    let text = |layer: &str| {
        let plan = plan(&format!(
            "cofferdam = 1\nname = \"x\"\n[layer.a]\nrun = \"a\"\nbecause = \"a test\"\n{layer}"
        ));
        service_unit(&plan, &["/bin/x".to_owned(), "a b".to_owned()])
    };
    let plain = text("syscalls = [\"@core\"]\n");
    let has = |line: &str| assert!(plain.lines().any(|it| it == line), "{line}\n{plain}");
    has("ExecStart=/bin/x \"a b\"");
    has("ExecReload=/bin/kill -HUP $MAINPID");
    has("SystemCallFilter=~@clock @cpu-emulation @module @obsolete @raw-io @reboot @swap");
    has("RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6");
    has("PrivateDevices=yes");
    has("MemoryDenyWriteExecute=yes");
    assert!(!plain.contains("CAP_NET_BIND_SERVICE") && !plain.contains("CAP_SYS_TIME"));

    let more = text(
        "syscalls = [\"@core\", \"clock_settime\", \"modify_ldt\", \"socket(AF_PACKET)\", \"bind\"]\n\
         capabilities = [\"CAP_SYS_TIME\"]\nexecmem = true\ngrace = \"300s\"\n\
         listen = { dns = \"udp:127.0.0.1:53\" }\n",
    );
    let has = |line: &str| assert!(more.lines().any(|it| it == line), "{line}\n{more}");
    has("SystemCallFilter=~@module @obsolete @raw-io @reboot @swap");
    has("RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_PACKET");
    has("MemoryDenyWriteExecute=no");
    has("TimeoutStopSec=340");
    assert!(more.contains(" CAP_NET_BIND_SERVICE") && more.contains(" CAP_SYS_TIME"), "{more}");
    // Any family: then the unit says nothing of families.
    assert!(!text("syscalls = [\"@core\", \"socket\"]\n").contains("RestrictAddress"));
}

fn export(arguments: &[&str]) -> Output {
    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/web.toml");
    Command::new(env!("CARGO_BIN_EXE_cofferdam"))
        .arg("export")
        .arg(policy)
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn the_verb_tells_what_is_missing() {
    let output = export(&["--as", "oci-seccomp", "--layer", "keeper"]);
    assert_eq!(output.status.code(), Some(0));
    let profile: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(ask(&profile, "read", &[0; 6]), Answer::Allow);
    assert_eq!(ask(&profile, "ptrace", &[0; 6]), Answer::Kill);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("not expressed: layer keeper: only cofferdam makes these: channel sign"));

    let output = export(&["--as", "oci-seccomp"]);
    let profiles: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(profiles.as_object().unwrap().len(), 4);

    let output = export(&["--as", "systemd"]);
    assert_eq!(output.status.code(), Some(0));
    let units = String::from_utf8(output.stdout).unwrap();
    assert_eq!(units.matches("\n[Service]\n").count(), 4);
    assert!(units.contains("# web-listener-https.socket\n"));
}

#[test]
fn what_is_missing_is_a_finding_to_who_is_strict() {
    for form in ["systemd", "oci-seccomp"] {
        let (plain, strict) = (export(&["--as", form]), export(&["--as", form, "--strict"]));
        assert_eq!((plain.status.code(), strict.status.code()), (Some(0), Some(1)));
        assert_eq!((plain.stdout, plain.stderr), (strict.stdout, strict.stderr));
    }
}

#[test]
fn wrong_usage_is_2() {
    let output = export(&["--as", "systemd", "--layer", "kepper"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("there are keeper, listener"));
    assert_eq!(export(&["--as", "prose"]).status.code(), Some(2));
}
