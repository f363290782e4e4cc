//! Files: opening, making, replacing and listing what lies beneath a granted directory.
//!
//! A directory is *direct*, mounted in the layer's own root with Landlock's rights, or *brokered*,
//! when the policy says `deny`, `max-open` or `append`: then the layer sees nothing of it, and a
//! helper opens and passes descriptors. [`Directory`] is the same in both cases.

mod brokered;
mod direct;
mod error;
mod opened;
mod report;

use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use self::brokered::{Brokered, BrokeredError};
use self::direct::{Direct, DirectError};
use self::opened::OpenSlot;
use super::broker::Broker;
use crate::ident::Name;
use crate::mark;
use crate::policy::beneath::{denied, is_plain};
use crate::policy::plan::{FilePlan, FileRight};
use crate::report::Tap;
use crate::wire::broker::{MAX_PATH, Refusal, open};

pub use self::error::FileError;
pub use self::opened::Opened;

/// A directory that the policy grants to this layer.
///
/// Everything lies beneath it: a path that leads out of it, through a symbolic link or through a
/// magic link is refused by the kernel (openat2(2)), whoever renames what meanwhile; and so is
/// all that is no regular file, without waiting for anybody. Paths are relative, names joined by
/// single slashes, at most 1024 bytes.
///
/// The calls block, as all of a file's do; in a brokered directory for the time of a question to
/// a helper, tens of microseconds; some hundreds to write without the right to truncate.
#[derive(Clone, Debug)]
pub struct Directory {
    plan: Arc<FilePlan>,
    layer: Name,
    asked: Brokered,
    /// `None` where everything is asked for.
    direct: Option<Arc<Direct>>,
    tap: Option<Tap>,
}

/// How a file is opened; see [`Directory::open`]. Nothing is set at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Options(u16);

impl Options {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self(0)
    }

    /// To read it: takes `read`.
    pub const fn read(self) -> Self {
        Self(self.0 | open::READ)
    }

    /// To write it anywhere: takes `write`.
    pub const fn write(self) -> Self {
        Self(self.0 | open::WRITE)
    }

    /// To write at its end: takes `append`, or `write`.
    pub const fn append(self) -> Self {
        Self(self.0 | open::APPEND)
    }

    /// Cut to nothing first: takes `truncate`.
    pub const fn truncate(self) -> Self {
        Self(self.0 | open::TRUNCATE)
    }

    /// Made if it isn't there: takes `create`.
    pub const fn create(self) -> Self {
        Self(self.0 | open::CREATE)
    }

    /// Made, and `EEXIST` if it is there: takes `create`.
    pub const fn create_new(self) -> Self {
        Self(self.0 | open::CREATE | open::EXCLUSIVE)
    }
}

/// How many deaths of the helper one replacement survives.
const LIVES: u32 = 16;

/// The helper keeps one draft for a layer: one replacement at a time.
static REPLACING: Mutex<()> = Mutex::new(());

impl Directory {
    /// The directory of a grant that is number `number` in the plan. A direct one is opened in
    /// this layer's own root, which takes the system call `openat2`, as all that it opens does.
    /// What the helper isn't asked for, `tap` reports.
    #[doc(hidden)]
    pub fn new(
        number: u16,
        plan: FilePlan,
        layer: Name,
        broker: Arc<Broker>,
        tap: Option<Tap>,
    ) -> io::Result<Self> {
        let direct = if plan.is_brokered(&layer) {
            None
        } else {
            Some(Arc::new(Direct::open_root(&plan.path)?))
        };
        let asked = Brokered { number, broker };
        Ok(Self { plan: Arc::new(plan), layer, asked, direct, tap })
    }

    /// A single file that is opened anew whenever it is asked for, with the rights that are granted.
    pub(crate) fn open_single(
        number: u16,
        plan: FilePlan,
        layer: Name,
        broker: Arc<Broker>,
    ) -> Result<Opened, FileError> {
        let (plan, asked) = (Arc::new(plan), Brokered { number, broker });
        let single = Self { plan, layer, asked, direct: None, tap: None };
        let holds = |right: &FileRight| single.rights().contains(right);
        let writes = [FileRight::Write, FileRight::Truncate].iter().any(holds);
        let mut how = 0;
        for (bit, yes) in [
            (open::READ, holds(&FileRight::Read)),
            (open::WRITE, writes),
            (open::APPEND, !writes && holds(&FileRight::Append)),
        ] {
            how |= if yes { bit } else { 0 };
        }
        let path = Path::new("");
        let fd = single.asked.open(how, path);
        let fd = fd.map_err(|error| single.refused(single.path(), how, error))?;
        Ok(Opened::new(fd.into(), None))
    }

    /// Its path, as the policy names it and as the layer sees it.
    pub fn path(&self) -> &Path {
        Path::new(&self.plan.path)
    }

    /// Whether a helper opens what is opened here.
    pub const fn is_brokered(&self) -> bool {
        self.direct.is_none()
    }

    /// Opens a regular file for reading.
    pub fn open_read(&self, path: impl AsRef<Path>) -> Result<(Opened, Metadata), FileError> {
        let path = path.as_ref();
        let file = self.open(path, Options::new().read())?;
        let metadata = file.metadata().map_err(|error| self.system(path, error))?;
        Ok((file, metadata))
    }

    /// Opens a regular file as `options` say, at least one of reading, writing and appending.
    /// A descriptor to write with, of a layer that may not truncate, can't be truncated.
    pub fn open(&self, path: impl AsRef<Path>, options: Options) -> Result<Opened, FileError> {
        let (path, how) = (path.as_ref(), options.0);
        if how & (open::READ | open::WRITE | open::APPEND) == 0 {
            return Err(self.malformed(path, "to open it takes reading, writing or appending"));
        }
        self.expect(path, how)?;
        if let Some(direct) = &self.direct {
            let file = self.directly(path, how, || direct.open(path, how))?;
            return Ok(Opened::new(file, None));
        }
        let place = self.place()?;
        let fd = self.asked.open(how, path).map_err(|error| self.refused(path, how, error))?;
        Ok(Opened::new(fd.into(), Some(place.taken())))
    }

    /// Opens a file to write at its end, and makes it if it isn't there and `create` is granted.
    pub fn append(&self, path: impl AsRef<Path>) -> Result<Opened, FileError> {
        let makes = self.rights().contains(&FileRight::Create);
        let options = Options::new().append();
        self.open(path, if makes { options.create() } else { options })
    }

    /// Makes an empty file if there is none: takes `create` alone. What it holds is written with
    /// another right.
    pub fn create(&self, path: impl AsRef<Path>) -> Result<(), FileError> {
        self.act(path.as_ref(), open::CREATE)
    }

    /// The same, and `EEXIST` if there is one.
    pub fn create_new(&self, path: impl AsRef<Path>) -> Result<(), FileError> {
        self.act(path.as_ref(), open::CREATE | open::EXCLUSIVE)
    }

    /// Cuts a file to nothing: takes `truncate`, and in a direct directory `write`.
    pub fn truncate(&self, path: impl AsRef<Path>) -> Result<(), FileError> {
        self.act(path.as_ref(), open::TRUNCATE)
    }

    /// Puts `bytes` in place of all that a file holds, or makes it. Who looks finds the old
    /// content or the new, whole, whoever is killed meanwhile. Takes `create`, `write` and
    /// `truncate`.
    ///
    /// The bytes are on the disk when this returns, but a name isn't: after a power cut the old
    /// content may be back, whole.
    pub fn replace(&self, path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), FileError> {
        let path = path.as_ref();
        self.expect(path, open::REPLACE)?;
        let blame = |error| self.refused(path, open::REPLACE, error);
        let _one = REPLACING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lives = LIVES;
        loop {
            let place = self.place()?;
            let draft = self.asked.open(open::DRAFT, Path::new("")).map_err(blame)?;
            let mut draft = Opened::new(draft.into(), Some(place.taken()));
            mark::reached("file.replace.got");
            let written = draft.write_all(bytes).and_then(|()| {
                mark::reached("file.replace.written");
                draft.sync_data()
            });
            written.map_err(|error| self.system(path, error))?;
            mark::reached("file.replace.synced");
            match self.asked.act(open::REPLACE, path) {
                // The helper ended, and the draft with it. Whether it was put in place or not, to
                // do so again leaves the same content there.
                Err(BrokeredError::Refused(Refusal::Unanswered | Refusal::Malformed))
                    if lives > 0 =>
                {
                    lives -= 1;
                }
                done => break done.map_err(blame)?,
            }
        }
        mark::reached("file.replace.confirmed");
        Ok(())
    }

    /// Makes a directory: takes `mkdir`.
    pub fn create_dir(&self, path: impl AsRef<Path>) -> Result<(), FileError> {
        self.change(path.as_ref(), open::MKDIR, Direct::create_dir)
    }

    /// Removes an empty directory: takes `rmdir`.
    pub fn remove_dir(&self, path: impl AsRef<Path>) -> Result<(), FileError> {
        self.change(path.as_ref(), open::RMDIR, Direct::remove_dir)
    }

    /// Renames a regular file, in place of the one that has the new name: takes `create` and
    /// `remove`, and `move` from one directory into another. Both paths together have at most
    /// 1023 bytes.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<(), FileError> {
        self.rename_as(open::RENAME_FILE, from.as_ref(), to.as_ref())
    }

    /// Renames a directory, in place of an empty one that has the new name: takes `mkdir` and
    /// `rmdir`, and `move` from one directory into another.
    pub fn rename_dir(
        &self,
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
    ) -> Result<(), FileError> {
        self.rename_as(open::RENAME_DIRECTORY, from.as_ref(), to.as_ref())
    }

    fn rename_as(&self, how: u16, from: &Path, to: &Path) -> Result<(), FileError> {
        let [old, new] = [from, to].map(|path| direct::bytes(path.as_os_str()));
        let how = if open::moves(old, new) { how | open::MOVE } else { how };
        let both = [old, b"\0", new].concat();
        let rename = |direct: &Direct, _: &Path| direct.rename(from, to, how & open::MKDIR != 0);
        self.change(Path::new(OsStr::from_bytes(&both)), how, rename)
    }

    /// An act that the helper does, or `direct`.
    fn change(
        &self,
        path: &Path,
        how: u16,
        direct: impl FnOnce(&Direct, &Path) -> Result<(), DirectError>,
    ) -> Result<(), FileError> {
        self.expect(path, how)?;
        match &self.direct {
            Some(own) => self.directly(path, how, || direct(own, path)),
            None => self.asked.act(how, path).map_err(|error| self.refused(path, how, error)),
        }
    }

    /// Removes a regular file: takes `remove`.
    pub fn remove(&self, path: impl AsRef<Path>) -> Result<(), FileError> {
        self.change(path.as_ref(), open::REMOVE, Direct::remove)
    }

    /// The names in a directory, in no order; an empty path is this directory itself. What `deny`
    /// denies isn't among them.
    pub fn list(&self, path: impl AsRef<Path>) -> Result<Vec<OsString>, FileError> {
        let path = path.as_ref();
        self.expect(path, open::LIST)?;
        match &self.direct {
            Some(direct) => self.directly(path, open::LIST, || direct.list(path)),
            None => self
                .asked
                .list(open::LIST, path)
                .map_err(|error| self.refused(path, open::LIST, error)),
        }
    }

    /// An act that leaves nothing open.
    fn act(&self, path: &Path, how: u16) -> Result<(), FileError> {
        self.change(path, how, |direct, path| direct.open(path, how).map(drop))
    }

    /// Does what the kernel allows or refuses.
    fn directly<T>(
        &self,
        path: &Path,
        how: u16,
        act: impl FnOnce() -> Result<T, DirectError>,
    ) -> Result<T, FileError> {
        let done = report::directly(self.tap.as_ref(), (path, how), act);
        done.map_err(|error| self.direct_error(path, error))
    }

    fn rights(&self) -> &[FileRight] {
        self.plan.grant.get(&self.layer).map_or(&[], Vec::as_slice)
    }

    /// A place among those that `max-open` allows.
    fn place(&self) -> Result<OpenSlot, FileError> {
        let most = self.plan.max_open.unwrap_or(u32::MAX);
        let (number, broker) = (self.asked.number, Arc::clone(&self.asked.broker));
        let limit = || FileError::Limit { file: self.plan.name.clone(), most };
        OpenSlot::reserve(number, broker, most).ok_or_else(limit)
    }

    /// Tells what will be refused, with the rule that refuses it. What enforces the rule is the
    /// helper, or the kernel.
    fn expect(&self, path: &Path, how: u16) -> Result<(), FileError> {
        let expected = self.expected(path, how);
        if let (Some(tap), Err(error)) = (&self.tap, &expected) {
            report::refused(tap, (path, how), error);
        }
        expected
    }

    fn expected(&self, path: &Path, how: u16) -> Result<(), FileError> {
        let name = direct::bytes(path.as_os_str());
        let whole = how == open::LIST && name.is_empty();
        let paths = match open::both(name).filter(|_| how & open::RENAME != 0) {
            Some((from, to)) => vec![from, to],
            None => vec![name],
        };
        if let Some(odd) = paths.iter().find(|path| !whole && !is_plain(path)) {
            let why = "a path is names joined by single slashes, without `.` and `..`";
            return Err(self.malformed(Path::new(OsStr::from_bytes(odd)), why));
        }
        if name.len() > MAX_PATH {
            return Err(self.malformed(path, "it is longer than 1024 bytes"));
        }
        let has = |bit| how & bit != 0;
        let appends = has(open::APPEND) && !self.rights().contains(&FileRight::Write);
        let needed = [
            (FileRight::Read, has(open::READ)),
            // To read and to append by one descriptor is to write anywhere, by mapped memory.
            (FileRight::Write, has(open::WRITE | open::REPLACE) || appends && has(open::READ)),
            (FileRight::Append, appends),
            (FileRight::Truncate, has(open::TRUNCATE | open::REPLACE)),
            (FileRight::Create, has(open::CREATE | open::REPLACE)),
            (FileRight::Remove, has(open::REMOVE)),
            (FileRight::List, has(open::LIST)),
            (FileRight::Mkdir, has(open::MKDIR)),
            (FileRight::Rmdir, has(open::RMDIR)),
            (FileRight::Move, has(open::MOVE)),
        ];
        let needed: Vec<_> = needed.iter().filter(|(_, need)| *need).map(|(it, _)| *it).collect();
        if let Some(error) = FileError::missing(&self.plan, &self.layer, &needed) {
            return Err(error);
        }
        let hidden = paths.iter().find_map(|path| Some((path, denied(&self.plan.deny, path)?)));
        match hidden {
            Some((path, pattern)) => Err(self.denied(Path::new(OsStr::from_bytes(path)), pattern)),
            None => Ok(()),
        }
    }

    fn refused(&self, path: &Path, how: u16, error: BrokeredError) -> FileError {
        let path = first(path);
        let file = self.plan.name.clone();
        match error {
            BrokeredError::System(error) => self.system(path, error),
            BrokeredError::Refused(refusal) => match refusal {
                Refusal::Denied => self.denied(path, "a name that only the helper uses"),
                Refusal::Limit => {
                    FileError::Limit { file, most: self.plan.max_open.unwrap_or(u32::MAX) }
                }
                Refusal::NotRegular => FileError::NotRegular { file, path: path.to_owned() },
                Refusal::Unanswered => FileError::Interrupted { file, path: path.to_owned() },
                Refusal::Malformed => self.malformed(path, "these acts make no sense together"),
                Refusal::System(errno) => self.system(path, io::Error::from_raw_os_error(errno)),
                _ => FileError::not_granted(&self.plan, &self.layer, right_of(how)),
            },
        }
    }

    fn direct_error(&self, path: &Path, error: DirectError) -> FileError {
        let path = first(path);
        match error {
            DirectError::System(error) => self.system(path, error),
            DirectError::NotRegular => {
                FileError::NotRegular { file: self.plan.name.clone(), path: path.to_owned() }
            }
        }
    }

    fn malformed(&self, path: &Path, why: &'static str) -> FileError {
        FileError::Malformed { file: self.plan.name.clone(), path: path.to_owned(), why }
    }

    fn denied(&self, path: &Path, pattern: &str) -> FileError {
        let (file, path) = (self.plan.name.clone(), path.to_owned());
        FileError::Denied { file, path, pattern: pattern.to_owned() }
    }

    fn system(&self, path: &Path, error: io::Error) -> FileError {
        FileError::System { file: self.plan.name.clone(), path: path.to_owned(), error }
    }
}

/// The path of a request, or the old one of two.
fn first(path: &Path) -> &Path {
    let both = open::both(direct::bytes(path.as_os_str()));
    both.map_or(path, |(from, _)| Path::new(OsStr::from_bytes(from)))
}

/// The right that an act is named after, for a refusal that nobody expected.
fn right_of(how: u16) -> FileRight {
    match how {
        open::REMOVE => FileRight::Remove,
        open::LIST => FileRight::List,
        how if how & open::MOVE != 0 => FileRight::Move,
        how if how & open::MKDIR != 0 => FileRight::Mkdir,
        open::RMDIR => FileRight::Rmdir,
        open::CREATE | open::REPLACE | open::DRAFT | open::RENAME_FILE => FileRight::Create,
        how if how & open::READ != 0 => FileRight::Read,
        _ => FileRight::Write,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    fn directory(path: &Path, rights: &str) -> Directory {
        let text = format!(
            "cofferdam = 1\nname = \"a\"\n[layer.a]\nrun = \"a\"\nsyscalls = [\"@core\", \
             \"@file-read\", \"@file-write\"]\n[file.f]\npath = {path:?}\ngrant = {{ a = \
             [{rights}] }}\n"
        );
        let checked = crate::policy::check("a.toml", text.as_bytes());
        let said = checked.render(false);
        let plan = checked.plan.unwrap_or_else(|| panic!("{said}")).files.remove(0);
        let (socket, _) = std::os::unix::net::UnixDatagram::pair().unwrap();
        let broker = Arc::new(Broker::new(Arc::new(socket.into())));
        Directory::new(0, plan, Name::new("a").unwrap(), broker, None).unwrap()
    }

    #[test]
    fn opens_what_is_beneath_and_nothing_else() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "s").unwrap();
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("d")).unwrap();
        std::fs::write(root.path().join("d/page"), "p").unwrap();
        symlink(outside.path().join("secret"), root.path().join("link")).unwrap();
        symlink(outside.path(), root.path().join("away")).unwrap();
        let fifo = root.path().join("fifo");
        mknodat(CWD, fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();

        let directory = directory(root.path(), "\"read\"");
        assert_eq!(directory.open_read("d/page").unwrap().1.len(), 1);
        assert_eq!(directory.open_read("d").unwrap_err().kind(), io::ErrorKind::IsADirectory);
        assert!(matches!(directory.open_read("fifo"), Err(FileError::NotRegular { .. })));
        let absolute = outside.path().join("secret");
        let up = format!("../{}/secret", outside.path().file_name().unwrap().to_str().unwrap());
        for refused in
            ["link", "away/secret", "fifo", "d", "missing", "", &up, absolute.to_str().unwrap()]
        {
            directory.open_read(refused).expect_err(refused);
        }
    }

    #[test]
    fn a_missing_right_is_named_before_anything_is_done() {
        let root = tempfile::tempdir().unwrap();
        let directory = directory(root.path(), "\"read\", \"create\"");
        let said = directory.remove("x").unwrap_err().to_string();
        assert!(said.contains("`[file.f] grant`") && said.contains("\"remove\""), "{said}");
        directory.create_new("x").unwrap();
        assert_eq!(directory.create_new("x").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        directory.create("x").unwrap();
        assert!(matches!(directory.truncate("x"), Err(FileError::NotGranted { .. })));
        assert!(matches!(directory.replace("x", b""), Err(FileError::NotGranted { .. })));
        assert!(matches!(directory.list(""), Err(FileError::NotGranted { .. })));
    }
}
