//! The helper for files: it opens, makes, replaces, removes and lists what lies beneath the plan's
//! directories, for layers that see nothing of them.
//!
//! Its root holds these directories and nothing else. Each client has a thread of its own here,
//! which does one request after the other: a file system that hangs, a directory of a megabyte or a
//! file of gigabytes that is cut hold up nobody but who asked. What a client may is looked up
//! before its thread is told anything.

mod folder;
mod orders;
mod rights;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::epoll::EventFlags;

use self::folder::{Folder, FolderError, Maker};
pub(crate) use self::orders::{Orders, serves, view};
use self::orders::{Served, replaces};
use self::rights::{access, needed};
use super::Layer;
use super::lanes::Lanes;
use super::run::say;
use super::service::{self, ClientId, Replies, Service};
use crate::ident::{Instance, Name};
use crate::mark;
use crate::policy::beneath::{denied, is_plain};
use crate::policy::plan::FileRight;
use crate::sys::reopen::Proc;
use crate::wire::broker::{Answer, Ask, Refusal, open};
use crate::wire::control::{FromLayer, Object, host_part};

/// What the helper is called, as a layer and as a function. No policy may use the name.
pub(crate) const NAME: &str = "cofferdam-files";

/// Bytes of a client's thread's stack: names of files are the largest thing on it.
const STACK: usize = 128 << 10;

/// What a client costs, in bytes: its thread, and a list of names.
pub(crate) const CLIENT: u64 = (STACK as u64) + (4 << 20);

/// What [`Service::ready`] is told when a thread has done something.
const DONE: u32 = 0;

/// Serves until the supervisor says stop, or is gone.
pub(crate) fn run(layer: &Layer) -> io::Result<()> {
    let orders = Orders::decode(layer.settings())?;
    let proc = layer.0.objects.get(Object::Host, 0, host_part::PROC);
    let proc = proc.ok_or_else(|| io::Error::other("there is no /proc"))?.try_clone()?;
    service::serve(layer, Files::new(orders, Proc::new(proc))?)
}

/// The helper at work.
struct Files {
    folders: BTreeMap<u16, Directory>,
    clients: BTreeMap<ClientId, Client>,
    lanes: Lanes<Finished>,
}

/// A directory, and what the policy says of it.
struct Directory {
    served: Arc<Served>,
    /// Or why it can't be served: it isn't where it was any more.
    folder: Result<Arc<Folder>, i32>,
}

/// What is known of a client.
struct Client {
    layer: Name,
    /// How many descriptors of each file grant it hasn't said to have closed.
    counts: BTreeMap<u16, u32>,
    /// The draft that it was given last, and of which grant.
    draft: Option<(u16, OwnedFd)>,
    /// What it asked for and wasn't begun is not begun any more.
    gone: Arc<AtomicBool>,
}

/// What a thread is to do.
struct Job {
    folder: Arc<Folder>,
    served: Arc<Served>,
    how: u16,
    path: Vec<u8>,
    rights: Vec<FileRight>,
    draft: Option<OwnedFd>,
}

/// What came of it.
struct Finished {
    id: ClientId,
    request: u64,
    file: u16,
    how: u16,
    /// Whether the client that asked has not ended before.
    gone: Arc<AtomicBool>,
    done: Result<Option<OwnedFd>, Refusal>,
}

impl Files {
    fn new(orders: Orders, proc: Proc) -> io::Result<Self> {
        let maker = Arc::new(Maker { proc, owner: orders.owner });
        let mut folders = BTreeMap::new();
        for (number, served) in orders.served {
            let (path, daemon) = (&served.path, orders.daemon.as_str());
            let open = |numbers| Folder::open_root(path, numbers, daemon, Arc::clone(&maker));
            let Some(folder) = served.numbers.map(open) else {
                let folder = Err(libc::ENOENT);
                folders.insert(number, Directory { served: Arc::new(served), folder });
                continue;
            };
            let folder = folder.map_err(|error| {
                say(&format!(
                    "[file.{}] {path}: nothing is opened there: {error}",
                    served.plan.name
                ));
                error.raw_os_error().unwrap_or(libc::EIO)
            });
            if let Ok(folder) = &folder
                && served.plan.grant.values().any(|rights| rights.contains(&FileRight::Create))
            {
                folder.clear();
            }
            let folder = folder.map(Arc::new);
            folders.insert(number, Directory { served: Arc::new(served), folder });
        }
        Ok(Self { folders, clients: BTreeMap::new(), lanes: Lanes::new(STACK)? })
    }

    /// Looks whether a client may, and has its thread do it.
    fn begin(
        &mut self,
        id: ClientId,
        request: u64,
        number: u16,
        how: u16,
        path: Vec<u8>,
    ) -> Result<(), Refusal> {
        let client = self.clients.get_mut(&id).ok_or(Refusal::NotGranted)?;
        let directory = self.folders.get(&number).ok_or(Refusal::NotGranted)?;
        let plan = &directory.served.plan;
        let rights = plan.grant.get(&client.layer).ok_or(Refusal::NotGranted)?;
        let path = match &directory.served.name {
            // All that can be asked of a single file.
            Some(name) if path.is_empty() && opens(how) => name.as_bytes().to_vec(),
            Some(_) => return Err(Refusal::System(libc::ENOTDIR)),
            None if path.is_empty() && opens(how) && plan.is_opened_on_demand() => {
                return Err(Refusal::System(libc::EISDIR));
            }
            None => path,
        };
        // Who sees the directory itself only has drafts made for it.
        let drafts = how == open::DRAFT || how == open::REPLACE;
        let alone = directory.served.name.is_some();
        if !(alone || plan.is_brokered(&client.layer) || drafts && replaces(rights)) {
            return Err(Refusal::NotGranted);
        }
        let paths = match open::both(&path) {
            Some((from, to)) if how & open::RENAME != 0 => vec![from, to],
            _ => vec![&path[..]],
        };
        let whole = how == open::DRAFT || how == open::LIST && path.is_empty();
        let moves = paths.get(1).is_some_and(|to| open::moves(paths[0], to));
        let is_told =
            moves == (how & open::MOVE != 0) && (paths.len() == 2) == (how & open::RENAME != 0);
        if !is_told || !whole && !paths.iter().all(|path| is_plain(path)) {
            return Err(Refusal::Malformed);
        }
        if !needed(how, rights)?.iter().all(|right| rights.contains(right)) {
            return Err(Refusal::NotGranted);
        }
        let folder = directory.folder.as_ref().map_err(|errno| Refusal::System(*errno))?;
        let hides = |path: &&[u8]| folder.is_own(path) || denied(&plan.deny, path).is_some();
        if paths.iter().any(hides) {
            return Err(Refusal::Denied);
        }
        mark::reached("file.open.granted");
        let count = client.counts.entry(number).or_default();
        if gives(how) && plan.max_open.is_some_and(|most| *count >= most) {
            return Err(Refusal::Limit);
        }
        let draft = match how {
            open::REPLACE => {
                let draft = client.draft.take().filter(|(of, _)| *of == number);
                mark::reached("file.replace.asked");
                Some(draft.ok_or(Refusal::Malformed)?.1)
            }
            _ => None,
        };
        let job = Job {
            folder: Arc::clone(folder),
            served: Arc::clone(&directory.served),
            how,
            path,
            rights: rights.clone(),
            draft,
        };
        let gone = Arc::clone(&client.gone);
        let work = move || {
            let done =
                if gone.load(Ordering::Relaxed) { Err(Refusal::Unanswered) } else { job.work() };
            Finished { id, request, file: number, how, gone, done }
        };
        // Its place is taken from now on: two that are asked for at once are two.
        if gives(how) {
            *count = count.saturating_add(1);
        }
        self.lanes.run(id, work).map_err(|error| {
            self.give_back(id, number, how);
            Refusal::System(error.raw_os_error().unwrap_or(libc::EAGAIN))
        })
    }

    fn finish(&mut self, finished: Finished, replies: &mut Replies) {
        let Finished { id, request, file, how, gone, done } = finished;
        // The place has been taken by the client's next life, which asked for nothing.
        let Some(client) = self.clients.get_mut(&id).filter(|it| Arc::ptr_eq(&it.gone, &gone))
        else {
            return;
        };
        let done = done.and_then(|fd| match (how, fd) {
            (open::DRAFT, Some(draft)) => {
                let copy = draft.try_clone().map_err(|error| system(&error))?;
                client.draft = Some((file, draft));
                mark::reached("file.replace.drafted");
                Ok(Some(copy))
            }
            (_, fd) => Ok(fd),
        });
        let (answer, fd) = match done {
            Ok(fd) => (Answer::Done, fd),
            Err(refusal) => {
                self.give_back(id, file, how);
                (Answer::Refused(refusal), None)
            }
        };
        mark::reached("file.open.done");
        replies.answer(id, request, answer, fd);
        mark::reached("file.open.told");
    }

    /// A descriptor was not given, or was closed, or so the client says: one that lies gets no
    /// further than its own limit on descriptors.
    fn give_back(&mut self, id: ClientId, file: u16, how: u16) {
        let counts = self.clients.get_mut(&id).map(|client| &mut client.counts);
        if let Some(count) = counts.and_then(|counts| counts.get_mut(&file)).filter(|_| gives(how))
        {
            *count = count.saturating_sub(1);
        }
    }
}

impl Service for Files {
    fn joined(&mut self, id: ClientId, client: &Instance) {
        let (counts, draft, gone) = (BTreeMap::new(), None, Arc::default());
        self.clients.insert(id, Client { layer: client.layer.clone(), counts, draft, gone });
    }

    fn begun(&mut self, replies: &mut Replies) {
        // It is always there to be watched.
        let _ = replies.watch(self.lanes.bell(), DONE, EventFlags::IN);
    }

    fn asked(&mut self, id: ClientId, request: u64, ask: Ask, replies: &mut Replies) {
        mark::reached("file.open.asked");
        let begun = match ask {
            Ask::Open { file, how, path } => self.begin(id, request, file, how, path),
            _ => Err(Refusal::NotGranted),
        };
        if let Err(refusal) = begun {
            replies.answer(id, request, Answer::Refused(refusal), None);
        }
    }

    fn told(&mut self, id: ClientId, words: FromLayer, _: &mut Replies) -> bool {
        match words {
            FromLayer::Closed { file } => {
                mark::reached("file.close.heard");
                self.give_back(id, file, open::READ);
                mark::reached("file.close.counted");
                true
            }
            FromLayer::Resumed => true,
            _ => false,
        }
    }

    /// A single file has no name in a request.
    fn detail(&self, _: ClientId, ask: &Ask) -> Option<Vec<u8>> {
        let Ask::Open { file, path, .. } = ask else { return None };
        let served = &self.folders.get(file)?.served;
        let name = served.name.as_ref().filter(|_| path.is_empty())?;
        Some(name.as_bytes().to_vec())
    }

    /// What was begun is done, and answered.
    fn withdrawn(&mut self, _: ClientId, _: u64, _: &mut Replies) {}

    fn departed(&mut self, id: ClientId, _: &mut Replies) {
        if let Some(client) = self.clients.remove(&id) {
            client.gone.store(true, Ordering::Relaxed);
        }
    }

    fn ready(&mut self, _: u32, replies: &mut Replies) {
        let finished: Vec<_> = self.lanes.finished().collect();
        for finished in finished {
            self.finish(finished, replies);
        }
    }
}

impl Job {
    /// In the client's thread.
    fn work(self) -> Result<Option<OwnedFd>, Refusal> {
        let Self { folder, served, how, path, rights, draft } = self;
        let done = match how {
            open::REMOVE => folder.remove(&path).map(|()| None),
            open::MKDIR => folder.make_directory(&path).map(|()| None),
            open::RMDIR => folder.remove_directory(&path).map(|()| None),
            how if how & open::RENAME != 0 => match open::both(&path) {
                Some((from, to)) => folder.rename(from, to, how & open::MKDIR != 0).map(|()| None),
                None => return Err(Refusal::Malformed),
            },
            open::LIST => {
                folder.list(&path, |name| denied(&served.plan.deny, name).is_some()).map(Some)
            }
            open::DRAFT => folder.draft().map(Some),
            open::REPLACE => match draft {
                Some(draft) => folder.replace(&draft, &path).map(|()| None),
                None => return Err(Refusal::Malformed),
            },
            _ => folder.open(&path, access(how, &rights)),
        };
        done.map_err(|error| match error {
            FolderError::NotRegular => Refusal::NotRegular,
            FolderError::System(errno) => Refusal::System(errno.raw_os_error()),
        })
    }
}

/// Whether a request opens what is there, and makes and cuts nothing.
const fn opens(how: u16) -> bool {
    how != 0 && how & !(open::READ | open::WRITE | open::APPEND) == 0
}

/// Whether a request gives a descriptor that `max-open` counts.
const fn gives(how: u16) -> bool {
    how & (open::READ | open::WRITE | open::APPEND | open::DRAFT) != 0
}

fn system(error: &io::Error) -> Refusal {
    Refusal::System(error.raw_os_error().unwrap_or(libc::EIO))
}
