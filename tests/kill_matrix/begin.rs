//! Beginning the daemon of a case: its policy, and its log as it comes.

use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use crate::facility::{Facility, Runs};

/// Begins the daemon of a facility, whose policy lies in `directory`; `stop` is the actor, mark and
/// number where the gate holds somebody up. Gives the lines of its log too, till it has ended.
pub(crate) fn begin(
    facility: &Facility,
    stop: &str,
    directory: &Path,
) -> io::Result<(Child, Receiver<String>)> {
    std::fs::write(directory.join("gate"), "0")?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--case", facility.name, stop])
        .arg(directory.join("policy.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let log = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let (sender, coming) = channel();
    std::thread::spawn(move || {
        BufReader::new(log).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    Ok((child, coming))
}

impl Facility {
    /// The policy with its head, the layers that it says nothing of, the gate, restarts, and the
    /// names of this program's functions.
    pub(crate) fn whole_policy(&self, directory: &Path) -> String {
        let of_its_own = |layer: &str| self.policy.contains(&format!("[layer.{layer}]\n"));
        let mut parts = vec!["cofferdam = 1\nname = \"matrix\"\n".to_owned()];
        let mut readers = Vec::new();
        for (layer, runs) in self.layers {
            if !of_its_own(layer) {
                parts.push(format!("[layer.{layer}]\nRUN {layer}\"\nsyscalls = [\"@core\"]\n"));
            }
            if !matches!(runs, Runs::Exec) {
                readers.push(format!("{layer} = [\"read\"]"));
            }
        }
        parts.push(self.policy.to_owned());
        let readers = readers.join(", ");
        parts.push(format!("\n[file.gate]\npath = \"DIR/gate\"\ngrant = {{ {readers} }}\n"));
        let run = format!("restart = {{ on = \"always\", max = 1000 }}\nrun = \"{}-", self.name);
        let text = parts.concat().replace("RUN ", &run);
        text.replace("DIR", directory.to_str().unwrap_or_default())
            .replace("PORT", &port().to_string())
    }
}

/// A port that nobody listens on, and that no other case is given: `PORT` in a policy.
fn port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Below those that the kernel gives out by itself.
    let begin = std::process::id() % 190 * 100;
    loop {
        let offset = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(10_000 + (begin + offset) % 20_000).unwrap();
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
