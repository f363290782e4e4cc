//! Where in its program a call was made: the module and the function, as far as the process's memory
//! says (elf(5)), and what the C library calls the program.
//!
//! All of it is the process's own and may be made up: it is for people, each look is bounded, and
//! what makes no sense is left out.

use crate::sys::notify::Notification;
use crate::text::neutralise;

/// What was found; empty where nothing was.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Site {
    /// The program, by its last name.
    pub program: String,
    /// `libc.so.6 socket+0x7`.
    pub place: String,
}

const PAGE: u64 = 4096;

/// How far before the call a module's beginning is looked for, in pages: 16 MiB.
const BACK: u64 = 4096;

/// The most symbols of a module that are looked at. C libraries have some 3000.
const SYMBOLS: usize = 16 << 10;

/// The most bytes of names that are looked at.
const NAMES: u64 = 1 << 20;

/// The longest name that is shown, in bytes.
const NAME: usize = 128;

/// Where a call was made.
pub(super) fn find(call: &Notification) -> Site {
    let Some(module) = Module::around(call, call.instruction) else { return Site::default() };
    let offset = call.instruction.wrapping_sub(module.bias);
    let place = match module.function_at(offset) {
        Some((name, into)) if module.name.is_empty() => format!("{name}+{into:#x}"),
        Some((name, into)) => format!("{} {name}+{into:#x}", module.name),
        None if module.name.is_empty() => format!("{offset:#x}"),
        None => format!("{} {offset:#x}", module.name),
    };
    // Of C libraries alone: glibc's name for it, which musl has as well.
    let pointer = module.value_of(b"program_invocation_short_name");
    let program = pointer.and_then(|at| {
        let text = number(&bytes(call, module.bias.wrapping_add(at), 8)?, 0)?;
        // As far as its page goes, if the next one isn't there.
        let page = usize::try_from(PAGE - text % PAGE).unwrap_or(0).min(NAME);
        let name = bytes(call, text, NAME).or_else(|| bytes(call, text, page))?;
        Some(neutralise(&name[..name.iter().position(|&byte| byte == 0)?]))
    });
    Site { program: program.unwrap_or_default(), place }
}

/// What the loader needs of a module.
#[derive(Default)]
struct Module {
    /// What is added to its own addresses.
    bias: u64,
    /// What it calls itself; a program has no name.
    name: String,
    symbols: Vec<u8>,
    names: Vec<u8>,
}

impl Module {
    /// The one that this address is in.
    fn around(call: &Notification, address: u64) -> Option<Self> {
        let last = address - address % PAGE;
        let pages = (0..BACK).map_while(|back| last.checked_sub(back * PAGE));
        for page in pages {
            if bytes(call, page, 4)? == *b"\x7fELF" {
                return Self::at(call, page);
            }
        }
        None
    }

    /// The one that begins here.
    fn at(call: &Notification, base: u64) -> Option<Self> {
        let head = bytes(call, base, 64)?;
        // 64 bits, little-endian: what this program can run beside.
        if head.get(4..6)? != [2, 1] {
            return None;
        }
        let (at, count) = (number(&head, 32)?, u64::from(half(&head, 56)?.min(64)));
        let table = bytes(call, base.wrapping_add(at), usize::try_from(count * 56).ok()?)?;
        let segments = || table.chunks_exact(56);
        let of_kind = |kind| segments().filter(move |it| word(it, 0) == Some(kind));
        let lowest = of_kind(1).filter_map(|it| number(it, 16)).min()?;
        let bias = base.wrapping_sub(lowest - lowest % PAGE);
        let dynamic = of_kind(2).find_map(|it| number(it, 16));
        let mut module = Self { bias, ..Self::default() };
        if let Some(dynamic) = dynamic {
            // One that is odd has no names.
            let _ = module.read_tables(call, base, bias.wrapping_add(dynamic));
        }
        Some(module)
    }

    fn read_tables(&mut self, call: &Notification, base: u64, at: u64) -> Option<()> {
        let dynamic = bytes(call, at, 16 * 96).or_else(|| bytes(call, at, 16 * 24))?;
        let entries = dynamic.chunks_exact(16).take_while(|it| number(it, 0) != Some(0));
        let entries: Vec<(u64, u64)> =
            entries.filter_map(|it| Some((number(it, 0)?, number(it, 8)?))).collect();
        let find = |tag| entries.iter().find(|(it, _)| *it == tag).map(|(_, value)| *value);
        // glibc's loader has put addresses in the place of offsets.
        let address = |tag| {
            let value = find(tag)?;
            Some(if value < base { self.bias.wrapping_add(value) } else { value })
        };
        let (names, size) = (address(DT_STRTAB)?, find(DT_STRSZ)?.min(NAMES));
        self.names = bytes(call, names, usize::try_from(size).ok()?)?;
        if let Some(name) = find(DT_SONAME).and_then(|at| self.name_at(at)) {
            self.name = name;
        }
        let count = match (address(DT_GNU_HASH), address(DT_HASH)) {
            (Some(table), _) => count_of_gnu(call, table)?,
            (None, Some(table)) => word(&bytes(call, table, 8)?, 4)?,
            (None, None) => return None,
        };
        let count = usize::try_from(count).ok()?.min(SYMBOLS);
        self.symbols = bytes(call, address(DT_SYMTAB)?, count * 24)?;
        Some(())
    }

    /// The function that holds this address, and how far in.
    fn function_at(&self, address: u64) -> Option<(String, u64)> {
        let holds = |symbol: &&[u8]| {
            let is_function = symbol.get(4).is_some_and(|info| matches!(info & 0xf, 2 | 10));
            let (start, size) = (number(symbol, 8), number(symbol, 16));
            let is_in = |start: u64| {
                address >= start && address - start <= size.unwrap_or(0).clamp(1, 1 << 24)
            };
            is_function && half(symbol, 6) != Some(0) && start.is_some_and(is_in)
        };
        let found = self.symbols.chunks_exact(24).filter(holds);
        let nearest = found.max_by_key(|symbol| number(symbol, 8))?;
        let name = self.name_at(word(nearest, 0)?.into())?;
        Some((name, address - number(nearest, 8)?))
    }

    /// The address of what has this name.
    fn value_of(&self, name: &[u8]) -> Option<u64> {
        let is_it = |symbol: &&[u8]| {
            let at = word(symbol, 0).and_then(|at| usize::try_from(at).ok());
            let rest = at.and_then(|at| self.names.get(at..));
            let rest = rest.and_then(|rest| rest.strip_prefix(name));
            rest.is_some_and(|rest| rest.first() == Some(&0)) && half(symbol, 6) != Some(0)
        };
        number(self.symbols.chunks_exact(24).find(is_it)?, 8)
    }

    fn name_at(&self, at: u64) -> Option<String> {
        let rest = self.names.get(usize::try_from(at).ok()?..)?;
        let rest = &rest[..rest.len().min(NAME)];
        Some(neutralise(rest.split(|&byte| byte == 0).next()?))
    }
}

/// How many symbols a table of hashes leads to (the GNU one, which doesn't say).
fn count_of_gnu(call: &Notification, at: u64) -> Option<u32> {
    let head = bytes(call, at, 16)?;
    let (buckets, first, bloom) = (word(&head, 0)?, word(&head, 4)?, word(&head, 8)?);
    let table = at.wrapping_add(16 + 8 * u64::from(bloom));
    let buckets = usize::try_from(buckets).ok()?.min(SYMBOLS);
    let starts = bytes(call, table, 4 * buckets)?;
    let last = starts.chunks_exact(4).filter_map(|it| word(it, 0)).max()?;
    let chains = table.wrapping_add(4 * buckets as u64);
    // The last chain ends with an odd number.
    for symbol in last..last.saturating_add(256) {
        let at = chains.wrapping_add(4 * u64::from(symbol.checked_sub(first)?));
        if word(&bytes(call, at, 4)?, 0)? & 1 == 1 {
            return symbol.checked_add(1);
        }
    }
    None
}

/// So many bytes of the process, or nothing.
fn bytes(call: &Notification, at: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    (call.read(at, &mut bytes).ok()? == length).then_some(bytes)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

// elf(5), and the GNU one of elf.h.
const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_STRSZ: u64 = 10;
const DT_SONAME: u64 = 14;
const DT_GNU_HASH: u64 = 0x6fff_fef5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confine::filter::Arch;

    /// This very thread, as if it had made a call from there.
    fn here(instruction: u64) -> Notification {
        Notification {
            id: 0,
            thread: rustix::thread::gettid(),
            arch: Arch::NATIVE.audit(),
            number: 0,
            arguments: [0; 6],
            instruction,
        }
    }

    #[test]
    #[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
    fn a_call_of_the_c_library_is_found_there() {
        let at = libc::socketpair as *const () as u64;
        let site = find(&here(at + 7));
        assert!(site.place.starts_with("libc.so.6 "), "{site:?}");
        assert!(site.place.ends_with("socketpair+0x7"), "{site:?}");
        let own = std::env::args().next().unwrap();
        assert!(own.ends_with(&site.program) && !site.program.is_empty(), "{site:?}");
    }

    #[test]
    fn nonsense_has_no_site() {
        for address in [0, 1, 4096, u64::MAX, 1 << 46] {
            assert_eq!(find(&here(address)), Site::default());
        }
        // Memory that is there, and begins as a module does, but for the rest.
        let mut made = vec![0xff_u8; 3 * 4096];
        let page = 4096 - made.as_ptr() as usize % 4096;
        for length in [4, 5, 6, 40, 64, 4096] {
            made[page..page + length].fill(0xff);
            made[page..page + 4].copy_from_slice(b"\x7fELF");
            if length > 6 {
                made[page + 4..page + 6].copy_from_slice(&[2, 1]);
            }
            let at = made.as_ptr() as u64 + page as u64 + 70;
            assert_eq!(find(&here(at)).program, "");
        }
    }
}
