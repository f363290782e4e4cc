//! Reading a log while somebody writes it: what has come since the last look, without a lock.
//!
//! A record that is not whole yet is looked at again later. A segment that has ended is left only
//! once the next one is there, and then read to its end first. What is dropped before it was read
//! is told as missed.

use super::entry::Record;
use super::frame::FrameError;
use super::log::{first_record, segment_name, segment_number};
use super::reader::Reader;
use super::segment::HeaderError;
use super::store::{Store, StoreError, Trouble};

/// After so many looks at a damaged end of the log it is damage, and no write under way.
const PATIENCE: u32 = 10;

/// What a look finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The next record.
    Record(Box<Record>),
    /// Records were dropped before they were read.
    Missed {
        /// The first of them,
        from: u64,
        /// up to here, not counted.
        to: u64,
    },
    /// A segment can't be read any further; [`verify`](super::verify) says why.
    Damaged {
        /// Which.
        segment: u64,
    },
}

/// Where in a log somebody reads.
#[derive(Debug)]
pub struct Follower {
    open: Option<Open>,
    /// The next record's number.
    next: u64,
}

#[derive(Debug)]
struct Open {
    segment: u64,
    reader: Reader,
    /// How often the same place was found damaged.
    stuck: u32,
}

/// Where a segment's records end for now.
enum End {
    Whole,
    Growing,
    Damaged,
}

impl Follower {
    /// Reads from record `next` on.
    pub fn new(next: u64) -> Self {
        Self { open: None, next }
    }

    /// The number behind the last record that was read.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Gives everything that is there and was not given yet to `each`, until that says no.
    pub fn look(
        &mut self,
        store: &Store,
        mut each: impl FnMut(Event) -> bool,
    ) -> Result<(), StoreError> {
        loop {
            let mut open = match self.open.take() {
                Some(open) => open,
                None => match self.begin(store, &mut each)? {
                    Some(open) => open,
                    None => return Ok(()),
                },
            };
            // The next segment is looked for first: what this one holds then is all of it.
            let later = later(store, open.segment)?;
            let Some(end) = self.read(&mut open.reader, &mut each)? else {
                self.open = Some(open);
                return Ok(());
            };
            open.stuck = if matches!(end, End::Damaged) { open.stuck + 1 } else { 0 };
            let whole = matches!(end, End::Whole);
            let entered = match later {
                Some(later) => self.enter(store, later, !whole, &mut each)?,
                None => None,
            };
            let segment = open.segment;
            let damaged = if entered.is_some() { !whole } else { open.stuck == PATIENCE };
            if damaged && !each(Event::Damaged { segment }) {
                return Ok(());
            }
            if entered.is_none() {
                self.open = Some(open);
                return Ok(());
            }
            self.open = entered;
        }
    }

    /// Reads what is there. `None` if `each` has had enough.
    fn read(
        &mut self,
        reader: &mut Reader,
        each: &mut impl FnMut(Event) -> bool,
    ) -> Result<Option<End>, StoreError> {
        reader.again();
        while let Some((_, frame)) = reader.frame()? {
            let record = match frame.and_then(|frame| frame.record()) {
                Ok(record) => record,
                Err(FrameError::Short { .. }) => return Ok(Some(End::Growing)),
                Err(_) => return Ok(Some(End::Damaged)),
            };
            if record.index < self.next {
                continue;
            }
            self.next = record.index.saturating_add(1);
            if !each(Event::Record(Box::new(record))) {
                return Ok(None);
            }
        }
        Ok(Some(End::Whole))
    }

    /// Opens the segment that holds the next record, or the first one behind it.
    fn begin(
        &mut self,
        store: &Store,
        each: &mut impl FnMut(Event) -> bool,
    ) -> Result<Option<Open>, StoreError> {
        let numbers = numbers(store)?;
        let mut wanted = numbers.first().copied();
        for &number in numbers.iter().rev() {
            if first_record(store, number)?.is_some_and(|first| first <= self.next) {
                wanted = Some(number);
                break;
            }
        }
        let Some(wanted) = wanted else { return Ok(None) };
        self.enter(store, wanted, false, each)
    }

    /// Opens a segment. `None` if its header isn't there yet, or the segment is gone.
    fn enter(
        &mut self,
        store: &Store,
        segment: u64,
        damaged: bool,
        each: &mut impl FnMut(Event) -> bool,
    ) -> Result<Option<Open>, StoreError> {
        let name = segment_name(segment);
        let file = match store.reader(&name) {
            Err(error) if error.trouble() == Trouble::Missing => return Ok(None),
            file => file?,
        };
        let mut reader = Reader::new(file, &name, 0);
        match reader.header()? {
            Err(HeaderError::Short) => return Ok(None),
            // Reading on finds no record there, and says so.
            Err(_) => {}
            Ok(header) => {
                let first = header.before.size();
                if first > self.next {
                    if !damaged {
                        each(Event::Missed { from: self.next, to: first });
                    }
                    self.next = first;
                }
            }
        }
        Ok(Some(Open { segment, reader, stuck: 0 }))
    }
}

fn numbers(store: &Store) -> Result<Vec<u64>, StoreError> {
    let mut numbers: Vec<u64> =
        store.names()?.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The next segment behind this one, if there is one yet.
fn later(store: &Store, segment: u64) -> Result<Option<u64>, StoreError> {
    let there = |number: u64| match store.reader(&segment_name(number)) {
        Err(error) if error.trouble() == Trouble::Missing => Ok(false),
        file => file.map(|_| true),
    };
    let next = segment.saturating_add(1);
    if there(next)? {
        return Ok(Some(next));
    }
    // Only where this one was dropped can the next one have been dropped as well.
    if there(segment)? {
        return Ok(None);
    }
    Ok(numbers(store)?.into_iter().find(|number| *number > segment))
}
