//! Numbers as text: `OpenMetrics` 1.0 (the exposition format of prometheus.io).
//!
//! What is counted up has no `TYPE` line: `OpenMetrics` and the older format of Prometheus
//! disagree about where `_total` belongs in it, and without one the text is good in both.

use std::fmt::Write;

use super::{Numbers, Usage};
use crate::ident::Instance;

/// What a family of samples is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    /// It goes up and down.
    Gauge,
    /// It goes up only, until the daemon starts again.
    Counter,
}

/// The text of a daemon's numbers.
pub(crate) fn text(numbers: &Numbers) -> String {
    let Numbers {
        daemon,
        is_up,
        started,
        is_logged,
        lives,
        ends,
        edges,
        alarms,
        lost,
        busy,
        usage,
    } = numbers;
    let mut out = Text { daemon, out: String::new() };
    out.family("up", Type::Gauge, "Whether the daemon runs.");
    out.sample("up", &[], u8::from(*is_up));
    if let Some(started) = started {
        let what = "When the daemon started, in seconds since 1970.";
        out.family("start_time_seconds", Type::Gauge, what);
        out.sample("start_time_seconds", &[], started);
    }
    let instances = || lives.iter().map(|life| (&life.instance, life));
    if *is_logged || !lives.is_empty() {
        out.each("instance_running", Type::Gauge, "Whether an instance runs.", instances(), |it| {
            Some(u8::from(it.runs).to_string())
        });
        let what = "Which life of an instance is the last.";
        out.each("instance_generation", Type::Gauge, what, instances(), |it| {
            Some(it.instance.generation.to_string())
        });
        let what = "When an instance's last life began, or ended, in seconds since 1970.";
        out.each("instance_changed_time_seconds", Type::Gauge, what, instances(), |it| {
            Some(thousandths(it.since / 1_000_000))
        });
        let what = "How often an instance was started again.";
        out.each("instance_restarts_total", Type::Counter, what, instances(), |it| {
            Some(it.lives.saturating_sub(1).to_string())
        });
        out.family("layer_ends_total", Type::Counter, "Lives of a layer's that ended, and how.");
        for ((layer, how), count) in ends {
            out.sample("layer_ends_total", &[("layer", layer), ("reason", how)], count);
        }
    }
    if *is_logged {
        let what = "Acts of an instance that the framework refused.";
        out.each("instance_refusals_total", Type::Counter, what, instances(), |it| {
            Some(it.refused.to_string())
        });
        let what = "Acts of an instance that the kernel refused.";
        out.each("instance_denials_total", Type::Counter, what, instances(), |it| {
            Some(it.denied.to_string())
        });
        let what = "Messages over an edge, or uses of it, since the log's last segment began.";
        out.family("edge_messages_total", Type::Counter, what);
        for edge in edges {
            let verdicts =
                [("allowed", edge.allowed), ("failed", edge.failed), ("refused", edge.refused)];
            for (verdict, count) in verdicts {
                let labels = [("edge", &*edge.name), ("verdict", verdict)];
                out.sample("edge_messages_total", &labels, count);
            }
        }
        let what = "Bytes over an edge since the log's last segment began.";
        out.family("edge_bytes_total", Type::Counter, what);
        for edge in edges {
            out.sample("edge_bytes_total", &[("edge", &edge.name)], edge.bytes);
        }
        let what = "Reports about an edge that were lost since the log's last segment began.";
        out.family("edge_lost_reports_total", Type::Counter, what);
        for edge in edges {
            out.sample("edge_lost_reports_total", &[("edge", &edge.name)], edge.lost);
        }
        out.family("audit_alarms_total", Type::Counter, "Alarms in the audit log.");
        out.sample("audit_alarms_total", &[], alarms);
        out.family("audit_lost_reports_total", Type::Counter, "Reports that the audit log lacks.");
        out.sample("audit_lost_reports_total", &[], lost);
    }
    if !busy.is_empty() {
        let what = "Whether an instance has as much in its hands as its policy calls busy.";
        let instances = busy.iter().map(|(instance, busy)| (instance, busy));
        out.each("instance_busy", Type::Gauge, what, instances, |busy| {
            Some(u8::from(*busy).to_string())
        });
    }
    used(&mut out, usage);
    out.out.push_str("# EOF\n");
    out.out
}

fn used(out: &mut Text<'_>, usage: &[(Instance, Usage)]) {
    let instances = || usage.iter().map(|(instance, usage)| (instance, usage));
    let what = "Memory that an instance uses, with what the kernel keeps for it.";
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    out.each("instance_memory_bytes", Type::Gauge, what, instances(), |it| number(it.memory));
    let what = "The most memory that an instance may use.";
    out.each("instance_memory_limit_bytes", Type::Gauge, what, instances(), |it| {
        number(it.memory_limit)
    });
    let what = "Processor time that an instance's last life has used.";
    out.each("instance_cpu_seconds_total", Type::Counter, what, instances(), |it| {
        it.cpu.map(|microseconds| thousandths(microseconds / 1000))
    });
    let what = "Processes and threads of an instance.";
    out.each("instance_tasks", Type::Gauge, what, instances(), |it| number(it.tasks));
}

/// A number of thousandths, in whole ones.
fn thousandths(number: u64) -> String {
    format!("{}.{:03}", number / 1000, number % 1000)
}

struct Text<'a> {
    daemon: &'a str,
    out: String,
}

impl Text<'_> {
    fn family(&mut self, name: &str, kind: Type, what: &str) {
        if kind == Type::Gauge {
            let _ = writeln!(self.out, "# TYPE cofferdam_{name} gauge");
            for unit in ["seconds", "bytes"] {
                if name.ends_with(&format!("_{unit}")) {
                    let _ = writeln!(self.out, "# UNIT cofferdam_{name} {unit}");
                }
            }
        }
        let _ = writeln!(self.out, "# HELP cofferdam_{name} {}", escaped(what));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let _ = write!(self.out, "cofferdam_{name}{{daemon=\"{}\"", escaped(self.daemon));
        for (key, text) in labels {
            let _ = write!(self.out, ",{key}=\"{}\"", escaped(text));
        }
        let _ = writeln!(self.out, "}} {value}");
    }

    /// A family with a sample for each instance that has one.
    fn each<'i, T: 'i>(
        &mut self,
        name: &str,
        kind: Type,
        what: &str,
        all: impl Iterator<Item = (&'i Instance, &'i T)>,
        value: impl Fn(&T) -> Option<String>,
    ) {
        let samples = all.filter_map(|(instance, it)| Some((instance, value(it)?)));
        let samples = samples.collect::<Vec<_>>();
        if samples.is_empty() {
            return;
        }
        self.family(name, kind, what);
        for (Instance { layer, index, .. }, value) in samples {
            let labels = [("layer", layer.as_str()), ("instance", &*index.to_string())];
            self.sample(name, &labels, value);
        }
    }
}

/// A text between quotes: three characters are escaped, and nothing else may be (the ABNF's
/// `escaped-string`).
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::{Edge, Life};
    use super::*;
    use crate::ident::Name;

    fn numbers() -> Numbers {
        let instance = Instance { layer: Name::new("keeper").unwrap(), index: 1, generation: 3 };
        let usage =
            Usage { memory: Some(4096), memory_limit: None, cpu: Some(1_234_567), tasks: Some(2) };
        Numbers {
            daemon: "web-2".to_owned(),
            is_up: true,
            started: Some(7),
            is_logged: true,
            lives: vec![Life {
                instance: instance.clone(),
                runs: true,
                since: 1_500_000_000,
                lives: 3,
                refused: 4,
                denied: 5,
            }],
            ends: vec![(("keeper".to_owned(), "a \"quoted\"\\\nend".to_owned()), 2)],
            edges: vec![Edge {
                name: "channel.ask".to_owned(),
                allowed: 8,
                failed: 1,
                refused: 2,
                bytes: 99,
                lost: 0,
            }],
            alarms: 0,
            lost: 0,
            busy: vec![(instance.clone(), true)],
            usage: vec![(instance, usage)],
        }
    }

    #[test]
    fn every_number_is_a_sample() {
        let text = text(&numbers());
        for line in [
            "cofferdam_up{daemon=\"web-2\"} 1",
            "cofferdam_instance_generation{daemon=\"web-2\",layer=\"keeper\",instance=\"1\"} 3",
            "cofferdam_instance_restarts_total{daemon=\"web-2\",layer=\"keeper\",instance=\"1\"} 2",
            "cofferdam_layer_ends_total{daemon=\"web-2\",layer=\"keeper\",\
             reason=\"a \\\"quoted\\\"\\\\\\nend\"} 2",
            "cofferdam_edge_messages_total{daemon=\"web-2\",edge=\"channel.ask\",\
             verdict=\"refused\"} 2",
            "cofferdam_instance_busy{daemon=\"web-2\",layer=\"keeper\",instance=\"1\"} 1",
            "cofferdam_instance_cpu_seconds_total{daemon=\"web-2\",layer=\"keeper\",\
             instance=\"1\"} 1.234",
            "cofferdam_instance_changed_time_seconds{daemon=\"web-2\",layer=\"keeper\",\
             instance=\"1\"} 1.500",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} in {text}");
        }
        assert!(!text.contains("memory_limit"));
    }

    /// The grammar, as far as it is used here: each family once, its lines together, the types of
    /// what is typed, no sample twice, and the end.
    #[test]
    fn the_text_is_of_the_grammar() {
        let text = text(&numbers());
        let body = text.strip_suffix("# EOF\n").unwrap();
        let (mut families, mut samples) = (BTreeSet::new(), BTreeSet::new());
        let mut family = String::new();
        for line in body.lines() {
            if let Some(rest) = line.strip_prefix("# ") {
                let mut words = rest.splitn(3, ' ');
                let word = words.next().unwrap();
                assert!(["TYPE", "UNIT", "HELP"].contains(&word), "{line}");
                let name = words.next().unwrap();
                if family != name {
                    name.clone_into(&mut family);
                    assert!(families.insert(name.to_owned()), "{name} comes twice");
                }
                if word == "UNIT" {
                    assert!(name.ends_with(words.next().unwrap()), "{line}");
                }
                continue;
            }
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(samples.insert(name.to_owned()), "{name} comes twice");
            assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
            assert_eq!(name.split('{').next(), Some(&*family), "{line}");
        }
    }
}
