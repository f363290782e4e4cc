//! Parts of a view in place of grants: what many programs look for, and room of a layer's own.

use super::guarded::is_within;
use super::seen::File;
use crate::policy::plan::{FileRight, ViewPart};

/// The least room in memory, in bytes.
const ROOM: u64 = 16 << 20;

/// The part of a view that gives all that was done at a path. `largest` is the size of the largest
/// file that was written, in bytes.
pub(super) fn part(path: &str, file: &File, largest: u64) -> Option<ViewPart> {
    let looks = file.rights.iter().all(|right| matches!(right, FileRight::Read | FileRight::List));
    let room = largest.saturating_mul(4).max(ROOM).checked_next_power_of_two()?;
    let of_machine = [ViewPart::Tls, ViewPart::Zone, ViewPart::Resolve, ViewPart::Locale];
    let shows = |part: &ViewPart| part.paths().iter().any(|shown| is_within(path, shown));
    match path {
        // Of directories that everybody has, what is made there: what was there before is the host's.
        "/tmp" if !looks => Some(ViewPart::Tmp(room)),
        "/dev/shm" => Some(ViewPart::Shm(room)),
        _ if !looks => None,
        _ => match path.strip_prefix("/proc/") {
            Some(rest) => {
                let first = rest.split('/').next().unwrap_or_default();
                let is_process =
                    !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit());
                (is_process || ViewPart::OF_MACHINE.contains(&first)).then_some(ViewPart::Proc)
            }
            None => of_machine.into_iter().find(shows),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_part_gives_is_found() {
        let found = |path, rights: &[FileRight]| {
            let file = File { rights: rights.iter().copied().collect(), ..File::default() };
            part(path, &file, 0).map(ViewPart::name)
        };
        let (read, make) = ([FileRight::Read], [FileRight::Create, FileRight::Write]);
        assert_eq!(found("/etc/localtime", &read), Some("zone"));
        assert_eq!(found("/etc/ssl/certs/a.pem", &read), Some("tls"));
        assert_eq!(found("/etc/ssl/certs/a.pem", &make), None);
        assert_eq!(found("/proc/12/stat", &read), Some("proc"));
        assert_eq!(found("/proc/self/oom_score_adj", &make), None);
        assert_eq!(found("/proc/kcore", &read), None);
        assert_eq!((found("/tmp", &make), found("/tmp/a", &make)), (Some("tmp"), None));
        assert_eq!(found("/dev/shm", &make), Some("shm"));
    }
}
