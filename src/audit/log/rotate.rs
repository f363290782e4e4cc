//! Checkpoints, epochs, new segments, and what is dropped.
//!
//! Each step here may fail and be tried again, and a crash between any two is finished by
//! [`Log::open`].

use super::{Log, LogError, Notebook, Open, index_name, notes_name, segment_name};
use crate::audit::entry::{Entry, Kind, Moment};
use crate::audit::index::Index;
use crate::audit::note::{Checkpoint, Signed};
use crate::audit::segment::Header;
use crate::audit::store::{self, Store, StoreError};

impl Notebook {
    /// Appends a signed checkpoint, durably. After an error the file is as it was.
    pub(super) fn append(&mut self, store: &Store, signed: &Signed) -> Result<(), StoreError> {
        let text = format!("{}\n", signed.encode());
        let file = store.writer(&self.name)?;
        let written = store::write_at(&file, &self.name, text.as_bytes(), self.length)
            .and_then(|()| store::sync_data(&file, &self.name))
            .and_then(|()| if self.length == 0 { store.sync() } else { Ok(()) });
        if let Err(error) = written {
            let _ = store::cut(&file, &self.name, self.length);
            return Err(error);
        }
        self.length += text.len() as u64;
        Ok(())
    }
}

impl Log {
    /// Commits, and signs a checkpoint of all there is.
    pub fn checkpoint(&mut self, now: Moment) -> Result<Checkpoint, LogError> {
        self.flush()?;
        self.finish_epoch()?;
        let signed = self.statement(None, now).sign(&self.keys.signing);
        self.segment.notes.append(&self.store, &signed)?;
        self.last = signed.checkpoint;
        Ok(self.last)
    }

    /// The signed note of the log as it is, to be kept elsewhere.
    pub fn signed(&mut self, now: Moment) -> Result<String, LogError> {
        self.flush()?;
        self.finish_epoch()?;
        Ok(self.statement(None, now).sign(&self.keys.signing).encode())
    }

    fn statement(&self, next: Option<[u8; 32]>, now: Moment) -> Checkpoint {
        Checkpoint {
            log: self.last.log,
            size: self.committed,
            root: self.chain.tree.root(),
            link: self.chain.link,
            epoch: self.keys.epoch,
            key: self.keys.public(),
            first: self.first.0,
            time: now,
            next,
        }
    }

    /// Commits, signs the last checkpoint of this epoch, erases its key and goes on with the next:
    /// from here on nobody can sign for what was before.
    pub fn next_epoch(&mut self, now: Moment) -> Result<Checkpoint, LogError> {
        self.flush()?;
        if self.next_keys.is_none() {
            let next = self.keys.prepare(&self.store, &mut *self.chance)?;
            let signed = self.statement(Some(next.public()), now).sign(&self.keys.signing);
            self.epochs.append(&self.store, &signed)?;
            self.next_keys = Some(next);
            self.last = signed.checkpoint;
        }
        self.finish_epoch()?;
        Ok(self.last)
    }

    /// Installs the next epoch's key, if a checkpoint on disk names one.
    fn finish_epoch(&mut self) -> Result<(), LogError> {
        if let Some(next) = &self.next_keys {
            next.install(&self.store)?;
        }
        if let Some(next) = self.next_keys.take() {
            self.keys = next;
        }
        Ok(())
    }

    /// Commits, ends the epoch and the segment, and drops what is older than it should be kept.
    pub fn rotate(&mut self, now: Moment) -> Result<(), LogError> {
        self.next_epoch(now)?;
        // Queries do without an index, and make it again.
        let index = self.segment.index.encode(&self.segment.link, self.segment.length);
        let _ = self.store.replace(&index_name(self.segment.number), &index);
        self.segment = self.new_segment(self.segment.number + 1, now)?;
        if let Some(tables) = self.tables.take() {
            self.push(&tables, &[], now);
            self.tables = Some(tables);
        }
        self.retain(now)
    }

    /// Makes an empty segment that goes on where the log stands.
    pub(super) fn new_segment(&self, number: u64, now: Moment) -> Result<Open, LogError> {
        let (log, link, before) = (self.last.log, self.chain.link, self.chain.tree.clone());
        Self::make_segment(&self.store, &Header { log, number, link, before }, now)
    }

    pub(super) fn make_segment(
        store: &Store,
        header: &Header,
        now: Moment,
    ) -> Result<Open, LogError> {
        let name = segment_name(header.number);
        let bytes = header.encode();
        if let Err(error) = store.write(&name, &bytes) {
            let _ = store.remove(&name);
            return Err(error.into());
        }
        Ok(Open {
            number: header.number,
            file: store.writer(&name)?,
            name,
            link: header.link,
            length: bytes.len() as u64,
            opened: now,
            index: Index::default(),
            notes: Notebook { name: notes_name(header.number), length: 0 },
        })
    }

    /// Drops the oldest segments as the options say, never the one being written. A signed
    /// checkpoint says so before any file goes.
    pub fn retain(&mut self, now: Moment) -> Result<(), LogError> {
        let (first, bytes) = self.to_keep(now)?;
        if first == self.first.1 {
            return Ok(());
        }
        let header = self.store.read(&segment_name(first), 1 << 12)?;
        let Some(header) = header.and_then(|bytes| Header::parse(&bytes).ok()) else {
            return Err(LogError::Damaged {
                file: segment_name(first),
                byte: 0,
                what: "the header of the first segment to keep is damaged".to_owned(),
            });
        };
        let record = header.before.size();
        self.push(
            &Entry {
                value: u32::try_from(first).unwrap_or(u32::MAX),
                sequence: record,
                length: bytes,
                ..Entry::new(Kind::Retained)
            },
            &[],
            now,
        );
        let dropped = self.first;
        self.first = (record, first);
        if let Err(error) = self.checkpoint(now) {
            self.first = dropped;
            return Err(error);
        }
        self.drop_before(dropped.1)?;
        Ok(())
    }

    /// The first segment to keep, and how many bytes those before it have.
    fn to_keep(&self, now: Moment) -> Result<(u64, u64), LogError> {
        let mut sizes = Vec::new();
        for number in self.first.1..self.segment.number {
            let name = segment_name(number);
            let file = self.store.reader(&name)?;
            sizes.push(store::length(&file, &name)?);
        }
        let mut total = sizes.iter().sum::<u64>() + self.segment.length;
        let (mut first, mut dropped) = (self.first.1, 0);
        for size in sizes {
            if total <= self.options.keep_bytes && !self.too_old(first, now)? {
                break;
            }
            first += 1;
            total -= size;
            dropped += size;
        }
        Ok((first, dropped))
    }

    /// Whether a segment ended too long ago: that is when the next one began.
    fn too_old(&self, number: u64, now: Moment) -> Result<bool, LogError> {
        if self.options.keep_age == u64::MAX {
            return Ok(false);
        }
        let began = super::open::began(&self.store, number + 1)?;
        Ok(began.is_some_and(|at| now.real.saturating_sub(at.real) > self.options.keep_age))
    }

    /// Removes the files of all segments from `number` to the first one kept.
    pub(super) fn drop_before(&self, number: u64) -> Result<(), StoreError> {
        for number in number..self.first.1 {
            for name in [index_name(number), notes_name(number), segment_name(number)] {
                self.store.remove(&name)?;
            }
        }
        self.store.sync()
    }

    /// Ends in order: a [`Kind::Stop`] record, and a checkpoint of everything.
    pub fn close(mut self, now: Moment) -> Result<Checkpoint, LogError> {
        self.append(&Entry::new(Kind::Stop), &[], now)?;
        let last = self.checkpoint(now)?;
        let index = self.segment.index.encode(&self.segment.link, self.segment.length);
        let _ = self.store.replace(&index_name(self.segment.number), &index);
        Ok(last)
    }
}
