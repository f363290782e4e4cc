//! Threads that block in place of a helper: in a file system, in a lookup. Each lane is one thread,
//! which does one job after the other, so what hangs holds up its own lane alone.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::event::{EventfdFlags, eventfd};

type Job<T> = Box<dyn FnOnce() -> T + Send>;

/// The lanes of a helper; what comes of a job is a `T`.
pub(super) struct Lanes<T> {
    jobs: BTreeMap<u32, Sender<Job<T>>>,
    done: (Sender<T>, Receiver<T>),
    /// Readable when a job is done.
    bell: Arc<OwnedFd>,
    /// Bytes of a thread's stack.
    stack: usize,
}

impl<T: Send + 'static> Lanes<T> {
    /// None yet: a thread is started with the first job of its lane.
    pub fn new(stack: usize) -> io::Result<Self> {
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        Ok(Self { jobs: BTreeMap::new(), done: channel(), bell, stack })
    }

    /// What is readable when a job is done.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Does `job` in `lane`, after those that are in it already. An error says that there can be
    /// no further thread.
    pub fn run(&mut self, lane: u32, job: impl FnOnce() -> T + Send + 'static) -> io::Result<()> {
        if !self.jobs.contains_key(&lane) {
            let jobs = self.start()?;
            self.jobs.insert(lane, jobs);
        }
        let Some(jobs) = self.jobs.get(&lane) else { return Ok(()) };
        jobs.send(Box::new(job)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// What has come of jobs that are done.
    pub fn finished(&self) -> impl Iterator<Item = T> {
        // First: what is done from here on rings again.
        let _ = rustix::io::read(&*self.bell, &mut [0; 8]);
        self.done.1.try_iter()
    }

    fn start(&self) -> io::Result<Sender<Job<T>>> {
        let (jobs, coming) = channel::<Job<T>>();
        let (done, bell) = (self.done.0.clone(), Arc::clone(&self.bell));
        let work = move || {
            // A job that is never done would be a request that nobody answers.
            let _guard = AbortOnPanic;
            for job in coming {
                if done.send(job()).is_err() {
                    return;
                }
                // It refuses only at its maximum, and then it has rung.
                let _ = rustix::io::write(&*bell, &1_u64.to_ne_bytes());
            }
        };
        std::thread::Builder::new().stack_size(self.stack).spawn(work)?;
        Ok(jobs)
    }
}

/// Ends the process when its thread unwinds: the helper's next life begins anew.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    #[test]
    fn a_lane_that_hangs_holds_up_no_other() {
        let mut lanes = Lanes::new(64 << 10).unwrap();
        let gate = Arc::new(Barrier::new(2));
        let hangs = Arc::clone(&gate);
        lanes
            .run(1, move || {
                hangs.wait();
            })
            .unwrap();
        lanes.run(1, || ()).unwrap();
        lanes.run(2, || ()).unwrap();
        let wait = |lanes: &Lanes<()>| {
            poll(&mut [PollFd::from_borrowed_fd(lanes.bell(), PollFlags::IN)], None).unwrap();
            lanes.finished().count()
        };
        assert_eq!(wait(&lanes), 1);
        gate.wait();
        let mut done = 0;
        while done < 2 {
            done += wait(&lanes);
        }
    }
}
