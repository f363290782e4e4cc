//! The receipt: for every protection, what the policy asked and what the kernel gave.
//!
//! A layer sends it to the supervisor, which must not parse anything variable from a layer: so it
//! is always [`Receipt::SIZE`] bytes, each field has one place, and reading it can't panic.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use crate::policy::plan::{LayerPlan, Program, Protection};

/// What was asked and what was given, for every protection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    cells: [Cell; COUNT],
    landlock_abi: u16,
    landlock_kernel: u16,
    uid: u32,
    gid: u32,
}

/// Whether the policy asks for a protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It doesn't apply to this layer: `cgroup.cpu` without a limit, `mdwe` with `execmem`.
    No,
    /// It is listed in `optional`.
    Optional,
    /// Without it, the layer must not run.
    Demanded,
}

/// What a layer got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Got {
    /// Nobody tried. Counts as missing, so a forgotten step is a refusal.
    Untried,
    /// The kernel enforces it.
    Enforced,
    /// The next best thing is in force: `RLIMIT_DATA` for `cgroup.memory`.
    Fallback,
    /// It isn't there, with the errno that said so.
    Missing(u16),
    /// There is nothing to protect: no user namespace is needed as root.
    NotApplicable,
}

impl Got {
    /// `Enforced`, or `Missing` with the error's errno (0 if it has none).
    pub fn from_result<T>(result: &io::Result<T>) -> Self {
        match result {
            Ok(_) => Self::Enforced,
            Err(error) => Self::missing(error),
        }
    }

    /// `Missing` with the error's errno (0 if it has none).
    pub fn missing(error: &io::Error) -> Self {
        let errno = error.raw_os_error().and_then(|errno| u16::try_from(errno).ok());
        Self::Missing(errno.unwrap_or(0))
    }

    /// Whether a policy that demands the protection can live with this.
    pub const fn satisfies(self) -> bool {
        matches!(self, Self::Enforced | Self::Fallback | Self::NotApplicable)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    asked: Asked,
    got: Got,
}

const COUNT: usize = Protection::ALL.len();
const MAGIC: [u8; 4] = *b"rcp1";
const HEADER: usize = 16;
const CELL: usize = 4;

impl Receipt {
    /// The length of its wire form, in bytes.
    pub const SIZE: usize = HEADER + COUNT * CELL;

    /// What `layer` asks, and nothing given yet.
    pub fn new(layer: &LayerPlan) -> Self {
        let cell = |protection| Cell { asked: asked(layer, protection), got: Got::Untried };
        Self {
            cells: Protection::ALL.map(cell),
            landlock_abi: 0,
            landlock_kernel: 0,
            uid: 0,
            gid: 0,
        }
    }

    /// Whether the policy asks for `protection`.
    pub const fn asked(&self, protection: Protection) -> Asked {
        self.cells[protection as usize].asked
    }

    /// What there is of `protection`.
    pub const fn got(&self, protection: Protection) -> Got {
        self.cells[protection as usize].got
    }

    /// Notes what there is of `protection`.
    pub const fn set(&mut self, protection: Protection, got: Got) {
        self.cells[protection as usize].got = got;
    }

    /// Landlock's version up to which rights are handled; 0 is none.
    pub const fn landlock_abi(&self) -> u32 {
        self.landlock_abi as u32
    }

    /// Landlock's version that the kernel has: it may be newer than what this program knows.
    pub const fn landlock_kernel(&self) -> u32 {
        self.landlock_kernel as u32
    }

    /// User and group as the layer sees them.
    pub const fn ids(&self) -> (u32, u32) {
        (self.uid, self.gid)
    }

    pub(crate) fn note_landlock(&mut self, abi: u32, kernel: u32) {
        let short = |version| u16::try_from(version).unwrap_or(u16::MAX);
        (self.landlock_abi, self.landlock_kernel) = (short(abi), short(kernel));
    }

    pub(crate) const fn note_ids(&mut self, uid: u32, gid: u32) {
        self.uid = uid;
        self.gid = gid;
    }

    /// What `layer` demands and this receipt doesn't show, in the recipe's order.
    ///
    /// The plan is asked again, not the receipt's own column: a layer can't talk itself out of a
    /// demand.
    pub fn missing_against(&self, layer: &LayerPlan) -> Vec<Protection> {
        let lacks = |protection: &Protection| {
            asked(layer, *protection) == Asked::Demanded && !self.got(*protection).satisfies()
        };
        Protection::ALL.into_iter().filter(lacks).collect()
    }

    /// One line: how much of what was asked is in force, and what isn't as asked.
    pub fn summary(&self) -> String {
        let asked = || Protection::ALL.into_iter().filter(|&p| self.asked(p) != Asked::No);
        let name = |protection: Protection| match (protection, self.got(protection)) {
            (Protection::Identity, Got::Fallback) => {
                let uid = self.uid;
                format!("identity (user {uid} in its own user namespace, outside the supervisor's)")
            }
            _ => protection.name().to_owned(),
        };
        let names = |wanted: fn(Got) -> bool| {
            let names = asked().filter(|&p| wanted(self.got(p))).map(name);
            names.collect::<Vec<_>>().join(", ")
        };
        let fallback = names(|got| got == Got::Fallback);
        let missing = names(|got| !got.satisfies());
        let given = asked().filter(|&p| self.got(p).satisfies()).count();
        let mut parts = vec![format!("{given} of {} protections in force", asked().count())];
        match (self.landlock_abi, self.landlock_kernel) {
            (0, _) => {}
            (abi, kernel) if kernel > abi => {
                parts.push(format!("Landlock ABI {abi} (the kernel has {kernel})"));
            }
            (abi, _) => parts.push(format!("Landlock ABI {abi}")),
        }
        for (what, names) in [("by fallback", fallback), ("missing", missing)] {
            if !names.is_empty() {
                parts.push(format!("{what}: {names}"));
            }
        }
        parts.join("; ")
    }

    /// The wire form.
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let (header, cells) = bytes.split_at_mut(HEADER);
        for (place, word) in header.chunks_exact_mut(4).zip([
            MAGIC,
            (u32::from(self.landlock_kernel) << 16 | u32::from(self.landlock_abi)).to_le_bytes(),
            self.uid.to_le_bytes(),
            self.gid.to_le_bytes(),
        ]) {
            place.copy_from_slice(&word);
        }
        for (place, cell) in cells.chunks_exact_mut(CELL).zip(&self.cells) {
            place.copy_from_slice(&cell.to_bytes());
        }
        bytes
    }

    /// Reads the wire form; `None` for anything that [`Receipt::to_bytes`] would not have written.
    pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Option<Self> {
        let (header, rest) = bytes.split_at(HEADER);
        let mut words = header.chunks_exact(4).filter_map(|word| word.try_into().ok());
        if words.next()? != MAGIC {
            return None;
        }
        let mut number = || words.next().map(u32::from_le_bytes);
        let (versions, uid, gid) = (number()?, number()?, number()?);
        let [low, below, above, high] = versions.to_le_bytes();
        let landlock_abi = u16::from_le_bytes([low, below]);
        let landlock_kernel = u16::from_le_bytes([above, high]);
        let mut cells = [Cell { asked: Asked::Demanded, got: Got::Untried }; COUNT];
        for (cell, bytes) in cells.iter_mut().zip(rest.chunks_exact(CELL)) {
            *cell = Cell::from_bytes(bytes.try_into().ok()?)?;
        }
        Some(Self { cells, landlock_abi, landlock_kernel, uid, gid })
    }
}

impl Cell {
    fn to_bytes(self) -> [u8; CELL] {
        let asked = match self.asked {
            Asked::No => 0,
            Asked::Optional => 1,
            Asked::Demanded => 2,
        };
        let (got, errno) = match self.got {
            Got::Untried => (0, 0),
            Got::Enforced => (1, 0),
            Got::Fallback => (2, 0),
            Got::Missing(errno) => (3, errno),
            Got::NotApplicable => (4, 0),
        };
        let [low, high] = errno.to_le_bytes();
        [asked, got, low, high]
    }

    fn from_bytes([asked, got, low, high]: [u8; CELL]) -> Option<Self> {
        let asked = match asked {
            0 => Asked::No,
            1 => Asked::Optional,
            2 => Asked::Demanded,
            _ => return None,
        };
        let got = match (got, u16::from_le_bytes([low, high])) {
            (0, 0) => Got::Untried,
            (1, 0) => Got::Enforced,
            (2, 0) => Got::Fallback,
            (3, errno) => Got::Missing(errno),
            (4, 0) => Got::NotApplicable,
            _ => return None,
        };
        Some(Self { asked, got })
    }
}

/// Whether `layer` asks for `protection`.
fn asked(layer: &LayerPlan, protection: Protection) -> Asked {
    let applies = match protection {
        Protection::CgroupCpu => layer.limits.cpu.is_some(),
        Protection::Mdwe => !layer.execmem,
        // Only a layer with channels of its own holds a key.
        Protection::SecretMemory => matches!(layer.program, Program::Run(_)),
        _ => true,
    };
    match (applies, layer.optional.contains(&protection)) {
        (false, _) => Asked::No,
        (true, true) => Asked::Optional,
        (true, false) => Asked::Demanded,
    }
}

impl fmt::Display for Got {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untried => f.write_str("not tried"),
            Self::Enforced => f.write_str("enforced"),
            Self::Fallback => f.write_str("by fallback"),
            Self::Missing(0) => f.write_str("missing"),
            Self::Missing(errno) => {
                write!(f, "missing: {}", io::Error::from_raw_os_error(i32::from(*errno)))
            }
            Self::NotApplicable => f.write_str("not needed"),
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::No => "-",
            Self::Optional => "optional",
            Self::Demanded => "demanded",
        })
    }
}

/// A table, a line a protection, without a newline at the end.
impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:18} {:9} given", "protection", "asked")?;
        for (protection, cell) in Protection::ALL.iter().zip(&self.cells) {
            write!(f, "\n{:18} {:9} {}", protection.name(), cell.asked, cell.got)?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::ident::Name;
    use crate::policy::plan::{Limits, LogPlan, OnReload, Ready, Restart, StopSignal, View};

    pub(crate) fn layer() -> LayerPlan {
        LayerPlan {
            first: 0,
            hosts: vec![],
            connect: vec![],
            stdin: None,
            stdout: None,
            stderr: None,
            name: Name::new("worker").expect("a good name"),
            program: Program::Run(Name::new("worker").expect("a good name")),
            instances: 1,
            workers: None,
            elastic: None,
            syscalls: vec![],
            listen: vec![],
            limits: Limits::default(),
            restart: Restart::default(),
            after: Vec::new(),
            ready: Ready::default(),
            reload: OnReload::default(),
            health: None,
            optional: vec![],
            view: View::default(),
            directories: Vec::new(),
            cwd: "/".to_owned(),
            umask: LayerPlan::DEFAULT_UMASK,
            env: BTreeMap::new(),
            threads: None,
            vars: BTreeMap::new(),
            grace: LayerPlan::DEFAULT_GRACE,
            log: LogPlan::default(),
            stop_signal: StopSignal::default(),
            capabilities: vec![],
            execmem: false,
            uid: None,
            group: None,
        }
    }

    #[test]
    fn protections_are_in_the_order_of_their_numbers() {
        for (place, protection) in Protection::ALL.into_iter().enumerate() {
            assert_eq!(protection as usize, place, "{}", protection.name());
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut receipt = Receipt::new(&layer());
        receipt.set(Protection::Root, Got::Enforced);
        receipt.set(Protection::CgroupMemory, Got::Fallback);
        receipt.set(Protection::Keyring, Got::Missing(38));
        receipt.set(Protection::NamespaceUser, Got::NotApplicable);
        receipt.note_landlock(7, 7);
        receipt.note_ids(1_073_741_900, 5);
        assert_eq!(Receipt::from_bytes(&receipt.to_bytes()), Some(receipt));
    }

    /// What isn't handled isn't claimed.
    #[test]
    fn a_newer_kernel_is_told() {
        let mut receipt = Receipt::new(&layer());
        receipt.note_landlock(7, 7);
        assert!(
            receipt.summary().ends_with("Landlock ABI 7") || receipt.summary().contains("ABI 7;")
        );
        receipt.note_landlock(10, 12);
        assert!(receipt.summary().contains("Landlock ABI 10 (the kernel has 12)"));
        let read = Receipt::from_bytes(&receipt.to_bytes()).expect("a receipt");
        assert_eq!((read.landlock_abi(), read.landlock_kernel()), (10, 12));
    }

    #[test]
    fn bytes_that_nobody_writes_are_refused() {
        let good = Receipt::new(&layer()).to_bytes();
        for (place, value) in [(0, 0), (HEADER, 3), (HEADER + 1, 5), (HEADER + 2, 1)] {
            let mut bad = good;
            bad[place] = value;
            assert_eq!(Receipt::from_bytes(&bad), None, "byte {place} = {value}");
        }
    }

    #[test]
    fn nothing_tried_is_nothing_given() {
        let mut layer = layer();
        layer.limits.cpu = Some(50);
        let receipt = Receipt::new(&layer);
        assert_eq!(receipt.missing_against(&layer), Protection::ALL);
    }

    #[test]
    fn only_what_is_demanded_is_missed() {
        let mut layer = layer();
        layer.optional = vec![Protection::Keyring];
        layer.execmem = true;
        let mut receipt = Receipt::new(&layer);
        for protection in Protection::ALL {
            receipt.set(protection, Got::Enforced);
        }
        for protection in [Protection::Keyring, Protection::Mdwe, Protection::Seccomp] {
            receipt.set(protection, Got::Missing(1));
        }
        assert_eq!(receipt.missing_against(&layer), [Protection::Seccomp]);
    }

    #[test]
    fn the_table_names_every_protection() {
        let text = Receipt::new(&layer()).to_string();
        for protection in Protection::ALL {
            assert!(text.contains(protection.name()), "{text}");
        }
    }
}
