//! Running every case and drawing the table.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::case::Case;

/// One line of the table.
#[derive(Default)]
struct Row {
    cases: usize,
    absent: usize,
    failed: usize,
    longest: Duration,
}

/// Runs the cases on as many processors as there are, and prints one line for each facility and
/// victim.
pub(crate) fn run(cases: &[Case]) -> ExitCode {
    let next = AtomicUsize::new(0);
    let rows: Mutex<BTreeMap<(&str, &str), Row>> = Mutex::default();
    let wrong: Mutex<Vec<String>> = Mutex::default();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = case.run();
                    let mut rows = rows.lock().unwrap();
                    let row = rows.entry((case.facility.name, case.victim)).or_default();
                    match result {
                        Ok(story) if !story.was_there => row.absent += 1,
                        Ok(story) => {
                            row.cases += 1;
                            row.longest = row.longest.max(story.longest);
                        }
                        Err(why) => {
                            row.cases += 1;
                            row.failed += 1;
                            wrong.lock().unwrap().push(format!("{case}: {why}"));
                        }
                    }
                }
            });
        }
    });
    let mut out = std::io::stdout().lock();
    let wrong = wrong.into_inner().unwrap();
    let heads = ["facility", "killed", "cases", "failed", "longest ms", "absent"];
    let [facility, victim, count, failed, longest, absent] = heads;
    let _ =
        writeln!(out, "{facility:16} {victim:12} {count:>6} {failed:>7} {longest:>11} {absent:>7}");
    let mut killed = 0;
    for ((facility, victim), row) in rows.into_inner().unwrap() {
        let Row { cases, absent, failed, longest } = row;
        killed += cases;
        let longest = longest.as_millis();
        let _ =
            writeln!(out, "{facility:16} {victim:12} {cases:6} {failed:7} {longest:11} {absent:7}");
    }
    let _ = writeln!(
        out,
        "{killed} cases, {} failed; in {} more the victim had not been started yet",
        wrong.len(),
        cases.len() - killed
    );
    for why in &wrong {
        let _ = writeln!(out, "\n{why}");
    }
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
