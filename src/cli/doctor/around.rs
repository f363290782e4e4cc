//! Who runs us: a container, a service manager's unit, or a shell.

use std::path::Path;

/// What this process runs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Around {
    /// A pod's container.
    Kubernetes,
    /// A container of this engine, by the name of its command.
    Container(&'static str),
    /// A unit of systemd.
    Unit,
    /// Nothing that it could tell.
    Plain,
}

impl Around {
    /// By what each leaves behind: the variables that kubelet sets, the files that Docker and Podman
    /// make, and `INVOCATION_ID` (systemd.exec(5)) in a control group of a service.
    pub(super) fn here() -> Self {
        let is_set = |name| std::env::var_os(name).is_some();
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let shell =
            groups.lines().any(|line| line.rsplit_once('.').is_some_and(|it| it.1 == "scope"));
        Self::from_traces(
            is_set("KUBERNETES_SERVICE_HOST"),
            Path::new("/.dockerenv").exists(),
            Path::new("/run/.containerenv").exists(),
            is_set("INVOCATION_ID") && !shell,
        )
    }

    #[expect(clippy::fn_params_excessive_bools, reason = "each is whether one trace is there")]
    const fn from_traces(pod: bool, docker: bool, podman: bool, unit: bool) -> Self {
        match (pod, docker, podman, unit) {
            // In a container too, for no engine passes that variable on.
            (.., true) => Self::Unit,
            (true, ..) => Self::Kubernetes,
            (_, true, ..) => Self::Container("docker"),
            (_, _, true, _) => Self::Container("podman"),
            _ => Self::Plain,
        }
    }

    /// In words, behind "here, in ".
    pub(super) fn name(&self) -> String {
        match self {
            Self::Kubernetes => "a container of Kubernetes".to_owned(),
            Self::Container(engine) => format!("a container of {engine}"),
            Self::Unit => "a unit of systemd".to_owned(),
            Self::Plain => "this process".to_owned(),
        }
    }

    /// The one of four texts that is for this place.
    pub(super) fn say(&self, pod: &str, container: &str, unit: &str, plain: &str) -> String {
        match self {
            Self::Kubernetes => pod.to_owned(),
            Self::Container(engine) => container.replace("ENGINE", engine),
            Self::Unit => unit.to_owned(),
            Self::Plain => plain.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_is_told() {
        let name = |pod, docker, podman, unit| {
            Around::from_traces(pod, docker, podman, unit).say("pod", "ENGINE run", "unit", "none")
        };
        assert_eq!(name(true, true, false, true), "unit");
        assert_eq!(name(true, true, false, false), "pod");
        assert_eq!(name(false, true, false, false), "docker run");
        assert_eq!(name(false, false, true, false), "podman run");
        assert_eq!(name(false, false, false, true), "unit");
        assert_eq!(name(false, false, false, false), "none");
    }
}
