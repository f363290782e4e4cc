use std::os::unix::fs::PermissionsExt;

use super::*;

/// A machine: its record, its locks, and the policies on it.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn record(&self) -> PathBuf {
        self.path("lib/users")
    }

    /// Puts a policy there.
    fn policy(&self, name: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, "").unwrap();
        path.display().to_string()
    }

    fn start(&self, home: &str, layers: &[&str]) -> Result<Users, UsersError> {
        self.start_as(None, home, layers, &[])
    }

    fn start_as(
        &self,
        told: Option<&str>,
        home: &str,
        layers: &[&str],
        fixed: &[(&str, u32)],
    ) -> Result<Users, UsersError> {
        let layers: Vec<Name> = layers.iter().map(|it| name(it)).collect();
        let layers: Vec<(&Name, u16)> = layers.iter().map(|it| (it, 2)).collect();
        let fixed: Vec<(Name, u32)> = fixed.iter().map(|(it, uid)| (name(it), *uid)).collect();
        let fixed: Vec<(&Name, u32)> = fixed.iter().map(|(it, uid)| (it, *uid)).collect();
        let told = told.map(|it| it.parse().unwrap());
        let claim = Claim {
            is_held: false,
            daemon: &name("web"),
            home,
            told: told.as_ref(),
            layers: &layers,
            fixed: &fixed,
        };
        Users::claim_in(&self.path("lib"), &self.path("run"), &claim)
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn both(users: &Users, layer: &str) -> [u32; 2] {
    [0, 1].map(|copy| users.numbers[&(name(layer), copy)])
}

#[test]
fn a_layer_stays_who_it_is_whatever_is_added() {
    let machine = Machine::new();
    let home = machine.policy("web.toml");
    let before = machine.start(&home, &["m"]).unwrap();
    let m = both(&before, "m");
    assert_ne!(m[0], m[1]);
    assert_eq!(before.note, None);
    drop(before);
    let after = machine.start(&home, &["a", "m", "z"]).unwrap();
    assert_eq!(both(&after, "m"), m);
    let a = both(&after, "a");
    drop(after);
    // One that was taken out and put back is who it was, and nobody was in between.
    let without = machine.start(&home, &["b", "m"]).unwrap();
    assert!(!both(&without, "b").iter().any(|it| a.contains(it)));
    drop(without);
    assert_eq!(both(&machine.start(&home, &["a"]).unwrap(), "a"), a);
}

#[test]
fn another_policy_of_the_name_is_another_daemon_whoever_starts_first() {
    let machine = Machine::new();
    let (one, two) = (machine.policy("one.toml"), machine.policy("two.toml"));
    let first = both(&machine.start(&one, &["m"]).unwrap(), "m");
    let other = machine.start(&two, &["m"]).unwrap();
    let second = both(&other, "m");
    assert!(!second.iter().any(|it| first.contains(it)));
    let said = other.note.as_deref().unwrap();
    assert!(said.contains("web+2") && said.contains("one.toml"), "{said}");
    drop(other);
    for _ in 0..2 {
        assert_eq!(both(&machine.start(&two, &["m"]).unwrap(), "m"), second);
        assert_eq!(both(&machine.start(&one, &["m"]).unwrap(), "m"), first);
    }
}

#[test]
fn a_second_daemon_at_once_has_users_of_its_own() {
    let machine = Machine::new();
    let home = machine.policy("web.toml");
    let one = machine.start(&home, &["m"]).unwrap();
    let two = machine.start(&home, &["m"]).unwrap();
    assert!(!both(&two, "m").iter().any(|it| both(&one, "m").contains(it)));
    assert!(two.note.as_deref().unwrap().contains("runs already"));
    let (first, second) = (both(&one, "m"), both(&two, "m"));
    drop(one);
    let again = machine.start(&home, &["m"]).unwrap();
    assert_eq!(both(&again, "m"), first);
    drop(again);
    // Told, it is the same one whether or not the other runs.
    let told = machine.start_as(Some("web+2"), &home, &["m"], &[]);
    assert!(matches!(told, Err(UsersError::Taken(_))), "the second still runs");
    drop(two);
    let told = machine.start_as(Some("web+2"), &home, &["m"], &[]).unwrap();
    assert_eq!(both(&told, "m"), second);
}

#[test]
fn a_policy_that_has_moved_keeps_its_users() {
    let machine = Machine::new();
    let home = machine.policy("v1.toml");
    let before = both(&machine.start(&home, &["m"]).unwrap(), "m");
    std::fs::remove_file(&home).unwrap();
    let moved = machine.start(&machine.policy("v2.toml"), &["m"]).unwrap();
    assert_eq!(both(&moved, "m"), before);
    assert!(moved.note.as_deref().unwrap().contains("v1.toml"));
    drop(moved);
    // A copy beside it hasn't moved; it may be told that it has.
    let copy = machine.policy("v3.toml");
    assert_ne!(both(&machine.start(&copy, &["m"]).unwrap(), "m"), before);
    let told = machine.start_as(Some("web"), &copy, &["m"], &[]).unwrap();
    assert_eq!(both(&told, "m"), before);
    drop(told);
    assert_eq!(both(&machine.start(&copy, &["m"]).unwrap(), "m"), before);
}

#[test]
fn a_number_of_the_policys_own_is_nobodys_else() {
    let machine = Machine::new();
    let home = machine.policy("web.toml");
    let taken = both(&machine.start(&home, &["m"]).unwrap(), "m")[0];
    let refused = machine.start_as(None, &home, &["m"], &[("a", taken)]).unwrap_err().to_string();
    assert!(refused.contains("[layer.a]") && refused.contains("web's m/0"), "{refused}");
    let refused = machine.start_as(None, &home, &[], &[("a", FIRST)]).unwrap_err().to_string();
    assert!(refused.contains("may become"), "{refused}");
    machine.start_as(None, &home, &[], &[("m", taken), ("b", 0), ("c", 970)]).unwrap();
}

#[test]
fn what_cannot_be_recorded_is_not_given() {
    let machine = Machine::new();
    let home = machine.policy("web.toml");
    drop(machine.start(&home, &["m"]).unwrap());
    let text = std::fs::read_to_string(machine.record()).unwrap();

    std::fs::write(machine.record(), &text[..text.len() - 1]).unwrap();
    let broken = machine.start(&home, &["m"]).unwrap_err().to_string();
    assert!(broken.contains("lib/users, line 4") && broken.contains("cut off"), "{broken}");
    std::fs::write(machine.record(), &text).unwrap();

    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for path in [machine.record(), machine.path("lib"), machine.path("run")] {
        let before = path.metadata().unwrap().permissions().mode();
        mode(&path, before | 0o022);
        let open = machine.start(&home, &["m"]).unwrap_err().to_string();
        assert!(open.contains("others may write"), "{open}");
        mode(&path, before);
    }

    // A link in its place isn't followed.
    let elsewhere = machine.path("elsewhere");
    std::fs::rename(machine.record(), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, machine.record()).unwrap();
    machine.start(&home, &["m"]).unwrap_err();
    std::fs::rename(&elsewhere, machine.record()).unwrap();
    drop(machine.start(&home, &["m"]).unwrap());
}

/// Whatever is left of a start that was killed while it wrote.
#[test]
fn a_draft_that_was_left_changes_nothing() {
    let machine = Machine::new();
    let home = machine.policy("web.toml");
    let before = both(&machine.start(&home, &["m"]).unwrap(), "m");
    std::fs::write(machine.path("lib/users.new"), "cofferdam-users 1\nuser 18").unwrap();
    let after = machine.start(&home, &["a", "m"]).unwrap();
    assert_eq!(both(&after, "m"), before);
    assert!(!machine.path("lib/users.new").exists());
}

/// Many starts at once: nobody gets another's number, nothing that was recorded is lost.
#[test]
fn starts_at_once_lose_nothing() {
    let machine = Machine::new();
    let homes: Vec<String> = (0..8).map(|it| machine.policy(&format!("{it}.toml"))).collect();
    let start = |home: &String| machine.start(home, &["m", "n"]).unwrap();
    let all: Vec<Users> = std::thread::scope(|scope| {
        let starts: Vec<_> = homes.iter().map(|home| scope.spawn(move || start(home))).collect();
        starts.into_iter().map(|it| it.join().unwrap()).collect()
    });
    let mut numbers: Vec<u32> =
        all.iter().flat_map(|it| [both(it, "m"), both(it, "n")].concat()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 32);
    let before: Vec<_> = all.iter().map(|it| both(it, "m")).collect();
    drop(all);
    let after: Vec<_> = homes.iter().map(|home| both(&start(home), "m")).collect();
    assert_eq!(before, after);
}
