//! The dispatcher: has the jobs, gives their tiles to workers of any host, and keeps each result once.
//!
//! A tile whose worker is gone is given to another. It may have been painted then: the result that comes
//! second is dropped. What it must not lose is in its [`Ledger`]; a dispatcher that was killed finds it
//! there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::message::{CallError, Channel, Event, Message, Replier, StreamReplier};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::Outcome;
use crate::ledger::Ledger;
use crate::protocol::{JobStatus, Part, Picture, Status, Task, Told, Wish};

/// Tiles that one worker has at a time: enough that it never waits for the next one.
const EACH: usize = 8;

/// How long a worker may take for a tile.
const TIME: Duration = Duration::from_secs(90);

/// How often a tile that its workers refuse is tried.
const TRIES: u32 = 5;

/// Jobs at a time. Whoever wants more is told to come back.
const JOBS: usize = 1000;

/// A tile of a job.
type Place = (u64, u32);

struct Dispatcher {
    ledger: Ledger,
    task: Channel,
    /// Tiles that somebody paints.
    under_way: BTreeSet<Place>,
    /// How often a tile was refused.
    refused: BTreeMap<Place, u32>,
    /// Who waits for tiles of a job, and from which on.
    watchers: Vec<Watcher>,
    twice: u64,
    again: u64,
}

/// Somebody who is sent a job's tiles.
struct Watcher {
    job: u64,
    /// Tiles that were not sent.
    left: BTreeSet<u32>,
    to: StreamReplier,
}

pub(crate) async fn dispatcher(layer: Layer) -> Outcome {
    let (jobs, task) = (layer.channel("jobs")?, layer.channel("task")?);
    let ledger = Ledger::open(Path::new(layer.var("state")?))?;
    let mut it = Dispatcher {
        ledger,
        task,
        under_way: BTreeSet::new(),
        refused: BTreeMap::new(),
        watchers: Vec::new(),
        twice: 0,
        again: 0,
    };
    let mut painting = JoinSet::new();
    loop {
        it.give_out(&mut painting);
        tokio::select! {
            () = layer.stopping() => return Ok(()),
            event = jobs.recv() => {
                if let Event::Request { message, reply, .. } = event? {
                    it.asked(message.decode()?, reply).await?;
                }
            }
            // Workers come and go, and what wasn't given out may be now.
            event = it.task.recv() => drop(event?),
            Some(painted) = painting.join_next() => {
                let (place, painted) = painted?;
                it.painted(place, painted).await?;
            }
        }
    }
}

impl Dispatcher {
    /// Gives tiles to the workers that are there, those of the highest priority first.
    fn give_out(&mut self, painting: &mut JoinSet<(Place, Result<Message, CallError>)>) {
        let most = self.task.peers().len() * EACH;
        while self.under_way.len() < most {
            let Some((place, picture)) = self.next() else { return };
            let Ok(message) = Message::encode(&Task { picture, tile: place.1 }) else { return };
            self.under_way.insert(place);
            let task = self.task.clone();
            let wait = match self.refused.get(&place) {
                Some(_) => Duration::from_millis(100),
                None => Duration::ZERO,
            };
            painting.spawn(async move {
                sleep(wait).await;
                (place, task.call("paint").timeout(TIME).send(message).await)
            });
        }
    }

    /// The tile that is to be painted next.
    fn next(&self) -> Option<(Place, Picture)> {
        let mut jobs: Vec<_> = self.ledger.jobs.iter().collect();
        jobs.sort_by_key(|(number, job)| (u8::MAX - job.priority, **number));
        jobs.into_iter().find_map(|(&number, job)| {
            let mut tiles = (0..).zip(&job.done).filter(|(_, done)| !**done);
            let free = tiles.find(|(tile, _)| !self.under_way.contains(&(number, *tile)));
            free.map(|(tile, _)| ((number, tile), job.picture.clone()))
        })
    }

    /// A tile came back, or didn't.
    async fn painted(&mut self, place: Place, painted: Result<Message, CallError>) -> Outcome {
        self.under_way.remove(&place);
        let (job, tile) = place;
        match painted {
            Ok(points) if self.is_whole(place, &points.body) => {
                if self.ledger.keep(job, tile, &points.body)? {
                    self.refused.remove(&place);
                    self.feed(job).await?;
                } else {
                    self.twice += 1;
                }
            }
            // Its worker or its host is gone: somebody else has it next.
            Err(CallError::NotDelivered(_) | CallError::MayHaveExecuted(_)) => self.again += 1,
            failed => {
                let why = failed.err().map_or("it isn't a tile".to_owned(), |why| why.to_string());
                let tries = self.refused.entry(place).or_default();
                *tries += 1;
                if *tries >= TRIES {
                    eprintln!("job {job} is given up, for nobody paints its tile {tile}: {why}");
                    self.give_up(job, &why).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether what a worker sent can be that tile. Workers are believed no more than that.
    fn is_whole(&self, (job, tile): Place, points: &[u8]) -> bool {
        self.ledger.jobs.get(&job).is_none_or(|job| {
            let (_, _, width, height) = job.picture.place(tile);
            points.len() == width as usize * height as usize * 3
        })
    }

    /// A client asks for something.
    async fn asked(&mut self, wish: Wish, reply: Replier) -> Outcome {
        match wish {
            Wish::Render { picture, priority } => {
                if !picture.is_fit() {
                    drop(reply.refuse("a picture that nobody paints").await);
                } else if self.ledger.jobs.len() >= JOBS {
                    drop(reply.refuse("too many jobs: come back when some are done").await);
                } else {
                    let job = self.ledger.take(picture, priority)?;
                    drop(reply.reply_typed(&Told::Job { job }).await);
                }
            }
            Wish::Status => drop(reply.reply_typed(&Told::Status(self.status())).await),
            Wish::Cancel { job } => {
                if self.ledger.forget(job)? {
                    self.drop_watchers(job, "the job was cancelled").await;
                    drop(reply.reply_typed(&Told::Done).await);
                } else {
                    drop(reply.refuse("there is no such job").await);
                }
            }
            Wish::Watch { job } => self.watch(job, reply).await?,
        }
        Ok(())
    }

    fn status(&self) -> Status {
        let job = |(&number, job): (&u64, &crate::ledger::Job)| JobStatus {
            job: number,
            priority: job.priority,
            tiles: job.picture.tiles(),
            done: job.done(),
        };
        Status {
            workers: self.task.peers().iter().map(ToString::to_string).collect(),
            under_way: self.under_way.len(),
            twice: self.twice,
            again: self.again,
            jobs: self.ledger.jobs.iter().map(job).collect(),
        }
    }

    /// Sends a job's tiles to whoever asked.
    async fn watch(&mut self, job: u64, reply: Replier) -> Outcome {
        let Some(known) = self.ledger.jobs.get(&job) else {
            drop(reply.refuse("there is no such job").await);
            return Ok(());
        };
        let left = (0..known.picture.tiles()).collect();
        let mut to = reply.stream()?;
        if to.send_typed(&Part::Picture(known.picture.clone())).await?.is_continue() {
            self.watchers.push(Watcher { job, left, to });
            self.feed(job).await?;
        }
        Ok(())
    }

    /// Sends what is there of a job to who waits for it. Who has all has the job taken off.
    async fn feed(&mut self, job: u64) -> Outcome {
        let mut rest = Vec::new();
        for mut watcher in std::mem::take(&mut self.watchers) {
            if watcher.job != job {
                rest.push(watcher);
                continue;
            }
            let Some(known) = self.ledger.jobs.get(&job) else { continue };
            let ready = watcher.left.iter().filter(|tile| known.done[**tile as usize]);
            let mut listens = true;
            for tile in ready.copied().collect::<Vec<_>>() {
                let part = Part::Tile(tile, self.ledger.tile(job, tile)?);
                listens = matches!(watcher.to.send_typed(&part).await, Ok(it) if it.is_continue());
                if !listens {
                    break;
                }
                watcher.left.remove(&tile);
            }
            match (listens, watcher.left.is_empty()) {
                (true, false) => rest.push(watcher),
                (true, true) => drop(watcher.to.end().await),
                (false, _) => {}
            }
        }
        self.watchers.extend(rest);
        Ok(())
    }

    async fn give_up(&mut self, job: u64, why: &str) -> Outcome {
        self.ledger.forget(job)?;
        self.refused.retain(|(number, _), _| *number != job);
        self.drop_watchers(job, why).await;
        Ok(())
    }

    async fn drop_watchers(&mut self, job: u64, why: &str) {
        let (gone, rest) =
            std::mem::take(&mut self.watchers).into_iter().partition(|it| it.job == job);
        self.watchers = rest;
        for watcher in Vec::from_iter::<Vec<Watcher>>(gone) {
            drop(watcher.to.fail(why).await);
        }
    }
}
