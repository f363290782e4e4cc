//! Learned policies: whole, no wider than they say, and the same for the same sights.

use std::collections::BTreeSet;

use cofferdam::ident::Name;
use cofferdam::policy::check;
use cofferdam::policy::plan::{FileRight, LayerPlan, Plan, ViewPart, Word as _};
use cofferdam::policy::syscall::all;
use cofferdam::policy::syscall::meaning::permits;
use cofferdam::review::learn::write::{self, Layer};
use cofferdam::review::learn::{Learner, Proposal, Seen, calls, objects};
use proptest::prelude::*;

/// Paths of every kind: of a person, of services, shared, guarded, of the system, and of no text
/// that a policy could say.
const PATHS: [&str; 24] = [
    "/srv/www/a",
    "/srv/www/b",
    "/srv/www/c",
    "/srv/www/d/e",
    "/srv/www",
    "/srv/www/d",
    "/home/ann",
    "/home/ann/.ssh/id",
    "/home/ann/site/a",
    "/home/ann/site/b",
    "/home/ann/site/c",
    "/etc/passwd",
    "/etc/hosts",
    "/etc/group",
    "/etc/shadow",
    "/etc",
    "/usr/bin/sh",
    "/usr/share/a",
    "/proc/self/maps",
    "/dev/null",
    "/dev/sda",
    "/var/lib/a/db",
    "/var/lib/a",
    "/srv/a\u{1b}[31m\n\"]",
];

fn seen() -> impl Strategy<Value = Seen> {
    let numbers: Vec<u32> = all().map(|(number, _)| number).collect();
    let argument = prop_oneof![0_u64..8, Just(0x5401), Just(0o2102), any::<u64>()];
    let call = (prop::sample::select(numbers), prop::array::uniform6(argument));
    // Programs that know nothing of cofferdam can't be held to appending.
    let rights = FileRight::ALL.into_iter().filter(|right| *right != FileRight::Append);
    let right = prop::sample::select(rights.collect::<Vec<_>>());
    let file = (prop::sample::select(&PATHS[..]), prop::collection::vec(right, 1..3));
    let address = prop::sample::select(&["tcp:127.0.0.1:80", "udp:[::1]:53", "unix:/run/a/b"][..]);
    let calls = prop::collection::vec(call, 0..40);
    let files = prop::collection::vec(file, 0..20);
    (calls, files, prop::collection::vec(address, 0..2), 0_u64..1 << 44).prop_map(
        |(calls, files, addresses, peak)| {
            let mut seen = Seen::default();
            for (number, arguments) in calls {
                seen.call(number, arguments, "/bin/one\u{1b}[0m");
            }
            for (path, rights) in files {
                let is_directory = ["/srv/www", "/etc", "/srv/www/d"].contains(&path);
                seen.file(path, is_directory, &rights, "/bin/one");
            }
            for address in addresses {
                seen.connected(address, "/bin/one");
            }
            seen.peaks.memory = peak;
            seen.peaks.tasks = peak >> 30;
            seen
        },
    )
}

struct Learned {
    text: String,
    plan: Plan,
    proposals: Vec<Proposal>,
}

fn plan(text: &str) -> Plan {
    let checked = check("learned.toml", text.as_bytes());
    checked.plan.clone().unwrap_or_else(|| panic!("{text}\n{}", checked.render(false)))
}

/// Learns a policy, or adds to one.
fn learn(seen: &Seen, before: Option<&str>) -> Learned {
    let layer = Layer {
        name: Name::new("a").unwrap(),
        exec: vec!["/usr/bin/a".to_owned(), "two\nlines".to_owned()],
        env: vec![("PATH".to_owned(), "/bin".to_owned())],
        uid: None,
    };
    let mut document = match before {
        Some(text) => text.parse().unwrap(),
        None => write::start(&layer),
    };
    let start = plan(&document.to_string());
    let home = Some("/home/ann");
    let is_new = before.is_none();
    let learner = Learner { plan: &start, layer: "a", is_new, home, because: None };
    let mut proposals = objects(seen, &learner);
    assert!(write::apply(&mut document, "a", &proposals));
    let between = plan(&document.to_string());
    let more = calls(seen, &Learner { plan: &between, ..learner });
    assert!(write::apply(&mut document, "a", &more));
    proposals.extend(more);
    write::remark(&mut document, &proposals);
    let text = document.to_string();
    Learned { plan: plan(&text), text, proposals }
}

fn layer(plan: &Plan) -> &LayerPlan {
    plan.layer("a").unwrap()
}

fn allows(plan: &Plan, number: u32, arguments: &[u64; 6]) -> bool {
    layer(plan).syscalls.iter().any(|it| it.number == number && permits(it, arguments))
}

/// What the policy grants at a path, its own grant and those around it.
fn rights(plan: &Plan, path: &str) -> BTreeSet<FileRight> {
    let within = |above: &str| {
        path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let files = plan.files.iter().filter(|file| within(&file.path));
    files.flat_map(|file| file.grant.values().flatten()).copied().collect()
}

/// Whether what isn't granted was asked or left out.
fn is_told(learned: &Learned, words: &str) -> bool {
    learned.proposals.iter().any(|it| !it.is_grant() && it.to_string().contains(words))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_was_seen_is_granted_or_told(seen in seen()) {
        let learned = learn(&seen, None);
        for (number, arguments) in seen.calls.keys() {
            let name = cofferdam::policy::syscall::name_of(*number).unwrap();
            // These two no policy grants as they were asked for.
            let told = is_told(&learned, name)
                || name == "clone3"
                || ["mmap", "mprotect"].contains(&name) && is_told(&learned, "execmem = true");
            prop_assert!(allows(&learned.plan, *number, arguments) || told, "{name} {arguments:?}");
        }
        for (path, file) in &seen.files {
            let looks = file
                .rights
                .iter()
                .all(|right| [FileRight::Read, FileRight::List, FileRight::Execute].contains(right));
            let is_made = ["/etc/passwd", "/etc/hosts", "/etc/group"].contains(&path.as_str());
            let has_proc = layer(&learned.plan).view.parts().contains(&ViewPart::Proc);
            let shown = path.starts_with("/usr/")
                || path.starts_with("/dev/null")
                || looks && (is_made || path.starts_with("/proc/self/") && has_proc);
            let granted = file.rights.is_subset(&rights(&learned.plan, path));
            // What is asked of a directory is asked of all in it.
            let around = std::path::Path::new(path).ancestors().filter_map(|it| it.to_str());
            let told = around.filter(|it| it.len() > 1).any(|path| {
                let shown = cofferdam::text::neutralise(path.as_bytes());
                is_told(&learned, &shown) || is_told(&learned, &format!("{shown:?}"))
            });
            prop_assert!(granted || shown || told, "{path} {:?}\n{}", file.rights, learned.text);
        }
    }

    #[test]
    fn nothing_guarded_or_dangerous_is_granted(seen in seen()) {
        let learned = learn(&seen, None);
        for file in &learned.plan.files {
            let path = file.path.as_str();
            prop_assert!(!["/", "/etc", "/etc/shadow", "/home/ann", "/dev/sda"].contains(&path));
            prop_assert!(!path.contains("/.ssh") && !path.starts_with("/proc"), "{path}");
        }
        // A dangerous grant would have taken a reason.
        prop_assert!(!learned.text.contains("\nbecause"));
        let escapes = learned.text.contains('\x1b');
        prop_assert!(!escapes);
    }

    #[test]
    fn no_item_can_be_taken_out(seen in seen()) {
        let learned = learn(&seen, None);
        for proposal in &learned.proposals {
            let Proposal::Call { item, .. } = proposal else { continue };
            let line = format!("\n  {item:?},");
            let without = learned.text.replacen(&line, "", 1);
            prop_assert_ne!(&without, &learned.text);
            let less = plan(&without);
            let lost = seen.calls.keys().any(|(number, arguments)| {
                allows(&learned.plan, *number, arguments) && !allows(&less, *number, arguments)
            });
            prop_assert!(lost, "{item} is needless in\n{}", learned.text);
        }
    }

    #[test]
    fn the_same_sights_give_the_same_and_then_nothing_more(one in seen(), other in seen()) {
        let learned = learn(&one, None);
        prop_assert_eq!(&learned.text, &learn(&one, None).text);
        let again = learn(&one, Some(&learned.text));
        let grants: Vec<_> = again.proposals.iter().filter(|it| it.is_grant()).collect();
        prop_assert!(grants.is_empty(), "{grants:?} for\n{}", learned.text);

        // More work adds, and takes nothing away.
        let more = learn(&other, Some(&learned.text));
        for (number, arguments) in one.calls.keys() {
            prop_assert!(
                !allows(&learned.plan, *number, arguments)
                    || allows(&more.plan, *number, arguments)
            );
        }
        for path in PATHS {
            prop_assert!(rights(&learned.plan, path).is_subset(&rights(&more.plan, path)));
        }
    }
}

#[test]
fn files_are_joined_by_stated_rules() {
    use FileRight::{Create, List, Read, Write};

    let learned = |files: &[(&str, bool, FileRight)]| {
        let mut seen = Seen::default();
        for (path, is_directory, right) in files {
            seen.file(path, *is_directory, &[*right], "/bin/one");
        }
        let plan = learn(&seen, None).plan;
        let show = |file: &cofferdam::policy::plan::FilePlan| {
            let words = file.grant.values().flatten().map(|right| right.word());
            format!("{} {}", file.path, words.collect::<Vec<_>>().join(" "))
        };
        plan.files.iter().map(show).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    };
    let read = |path| (path, false, Read);
    // Two are two, three are their directory, and none are the directory that holds secrets.
    assert_eq!(learned(&[read("/srv/w/a"), read("/srv/w/b")]), ["/srv/w/a read", "/srv/w/b read"]);
    let three = [read("/srv/w/a"), read("/srv/w/b"), read("/srv/w/c")];
    assert_eq!(learned(&three), ["/srv/w read"]);
    let etc = [read("/etc/a"), read("/etc/b"), read("/etc/c")];
    assert_eq!(learned(&etc), ["/etc/a read", "/etc/b read", "/etc/c read"]);
    let home = [read("/home/bob/a"), read("/home/bob/b"), read("/home/bob/c")];
    assert_eq!(learned(&home).len(), 3);
    // A tree that was walked is one grant.
    let walked = [
        ("/srv/tree", true, List),
        ("/srv/tree/a", false, Read),
        ("/srv/tree/in", true, List),
        ("/srv/tree/in/b", false, Read),
    ];
    assert_eq!(learned(&walked), ["/srv/tree list read"].map(sorted));
    // Writing to some isn't writing to all.
    let mixed = [("/srv/w/a", false, Write), read("/srv/w/b"), read("/srv/w/c"), read("/srv/w/d")];
    assert_eq!(learned(&mixed), ["/srv/w read", "/srv/w/a read write"]);
    assert_eq!(learned(&[("/srv/w", true, Create), read("/srv/w/a")]).len(), 2);
}

/// The rights of a line in the order in which plans have them.
fn sorted(line: &str) -> String {
    let mut words: Vec<&str> = line.split(' ').collect();
    let order = |word: &&str| FileRight::ALL.iter().position(|right| right.word() == *word);
    words[1..].sort_by_key(order);
    words.join(" ")
}

#[test]
fn comments_and_layout_of_a_policy_stay() {
    let text = "# mine\ncofferdam = 1\nname = \"d\"\n\n[layer.a]\nexec = [\"/usr/bin/a\"] # the \
                program\nsyscalls = [\"@core\"]  # all of it\n";
    let mut seen = Seen::default();
    let number = cofferdam::policy::syscall::by_name("unlink").unwrap();
    seen.call(number, [0; 6], "/usr/bin/a");
    seen.file("/srv/w/a", false, &[FileRight::Read], "/usr/bin/a");
    let learned = learn(&seen, Some(text));
    for kept in ["# mine\n", "# the program\n", "# all of it\n", "# once, by /usr/bin/a\n"] {
        assert!(learned.text.contains(kept), "{kept}: {}", learned.text);
    }
    assert!(learned.text.contains("\n  \"unlink\",\n") && learned.text.contains("[file.srv-w-a]"));
}
