//! What a unit sees of the file system besides its grants, and what belongs to it.

use super::Unit;
use crate::policy::plan::{DirectoryKind, DirectoryPlan, LayerPlan, Program, ViewPart};
use crate::review::export::quote::path;

impl Unit {
    pub(super) fn view(&mut self, layer: &LayerPlan) {
        for part in layer.view.parts() {
            let paths: Vec<String> = part.paths().iter().map(|path| format!("-{path}")).collect();
            match part {
                ViewPart::Tmp(size) => self.in_memory("/tmp", *size),
                ViewPart::Shm(size) => self.in_memory("/dev/shm", *size),
                ViewPart::Proc => {
                    self.miss("a /proc of its own: the unit has the host's pid namespace");
                }
                _ => self.say("BindReadOnlyPaths", &paths.join(" ")),
            }
        }
        match &layer.program {
            Program::Exec(_) if layer.view.has_system() => self.miss(
                "the list of users, groups and hosts that the layer sees in its /etc: the unit \
                 has none",
            ),
            Program::Exec(words) => {
                if let Some(program) = words.first() {
                    self.say("BindReadOnlyPaths", &path(program));
                }
            }
            Program::Run(_) => {}
        }
    }

    fn in_memory(&mut self, path: &str, size: u64) {
        let options = format!("{path}:size={size},mode=1777,nosuid,nodev,noexec");
        self.say("TemporaryFileSystem", &options);
    }

    /// Directories of its own, where it begins, and whom its files are open to.
    pub(super) fn directories(&mut self, layer: &LayerPlan) {
        for it in &layer.directories {
            self.directory(it);
        }
        if layer.cwd != "/" {
            self.say("WorkingDirectory", &path(&layer.cwd));
        }
        if layer.umask != LayerPlan::DEFAULT_UMASK {
            self.say("UMask", &format!("{:04o}", layer.umask));
        }
        if let Some(group) = layer.group {
            self.say("Group", &group.to_string());
        }
    }

    fn directory(&mut self, it: &DirectoryPlan) {
        // systemd.exec(5): each is beneath a directory of its own.
        let (key, home) = match it.kind {
            DirectoryKind::State => ("StateDirectory", "/var/lib/"),
            DirectoryKind::Cache => ("CacheDirectory", "/var/cache/"),
            DirectoryKind::Logs => ("LogsDirectory", "/var/log/"),
            DirectoryKind::Runtime => ("RuntimeDirectory", "/run/"),
        };
        let kind = it.kind.name();
        let Some(name) = it.path.strip_prefix(home).filter(|name| !name.is_empty()) else {
            self.miss(format!("{kind} = {}: systemd makes it beneath {home} alone", it.path));
            return;
        };
        self.say(key, name);
        self.say(&format!("{key}Mode"), "0700");
        self.say("NoExecPaths", &path(&it.path));
        if it.size.is_some() {
            self.miss(format!("{kind}: how much may be in it"));
        }
    }
}
