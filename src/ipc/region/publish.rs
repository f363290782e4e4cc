//! Publishing objects, and reading the newest.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::RegionError;
use super::slots::{self, Reader};
use super::wait::{Pace, Patience};
use super::watch::Spot;
use super::{Held, Part, Region, report};
use crate::ipc::Blocking;
use crate::mark::reached;
use crate::report::Side;
use crate::sys::mapping::Mapping;

/// The one that publishes in a region.
pub struct Publisher<T: ?Sized> {
    held: Held,
    last: u64,
    bytes: Vec<u8>,
    of: PhantomData<fn(&T)>,
}

/// One of those that read what is published in a region. It has its own copy of the newest object.
pub struct Subscriber<T: ?Sized> {
    region: Region,
    reader: Reader,
    of: PhantomData<fn() -> Box<T>>,
}

/// An object that was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object<T> {
    /// Its number. An honest publisher counts up from 1, beyond its own death.
    pub number: u64,
    /// The object: what its publisher says. It is whole; that it is true, nothing here proves.
    pub value: T,
}

impl<T: ?Sized> Publisher<T> {
    pub(super) fn new(region: &Region) -> Result<Self, RegionError> {
        region.must_write("publish")?;
        if !slots::format(&region.0.memory) {
            return Err(region.other_use("published objects"));
        }
        let held = region.take(Part::Publisher, slots::AT_WRITER)?;
        let last = slots::last(&region.0.memory);
        reached("region.publish.resumed");
        Ok(Self { held, last, bytes: Vec::new(), of: PhantomData })
    }

    /// The largest object, in bytes: a quarter of the region, less a little.
    pub fn capacity(&self) -> usize {
        slots::capacity(self.held.0.size())
    }

    /// The number of the last object that was published, by whatever publisher; 0 is none.
    pub fn last(&self) -> u64 {
        self.last
    }

    fn put(&mut self, bytes: &[u8]) -> Result<u64, RegionError> {
        self.held.0.fits("object", bytes.len(), self.capacity())?;
        let number = self.last + 1;
        if let Some(tap) = &self.held.0.0.tap {
            report::object(tap, Side::Sender, number, bytes);
        }
        slots::publish(&self.held.0.0.memory, number, bytes);
        self.last = number;
        Ok(number)
    }
}

impl Publisher<[u8]> {
    /// Publishes bytes and returns their number. It takes a copy and a system call, which wakes
    /// those who wait; it never waits itself.
    pub fn publish(&mut self, bytes: &[u8]) -> Result<u64, RegionError> {
        self.put(bytes)
    }
}

impl<T: Serialize> Publisher<T> {
    /// Publishes an object and returns its number. It takes a copy and a system call, which wakes
    /// those who wait; it never waits itself.
    pub fn publish(&mut self, object: &T) -> Result<u64, RegionError> {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        let encoded = postcard::to_extend(object, bytes);
        let bytes = encoded
            .map_err(|error| RegionError::Encoding { region: self.held.0.name().clone(), error })?;
        let number = self.put(&bytes);
        self.bytes = bytes;
        number
    }
}

impl<T: ?Sized> Subscriber<T> {
    pub(super) fn new(region: &Region) -> Self {
        Self { region: region.clone(), reader: Reader::default(), of: PhantomData }
    }

    /// The number of the newest object that this subscriber has read; 0 is none.
    pub fn number(&self) -> u64 {
        self.reader.number()
    }

    /// Takes the newest object; false if there is no other than before.
    #[inline]
    fn refresh(&mut self) -> bool {
        let shared = &self.region.0;
        let new = self.reader.refresh(&shared.memory);
        if new && let Some(tap) = &shared.tap {
            report::object(tap, Side::Receiver, self.reader.number(), self.reader.bytes());
        }
        new
    }

    async fn wait(&mut self) {
        let mut pace = Pace::default();
        loop {
            let spot = spot(&self.region.0.memory);
            if self.refresh() {
                return;
            }
            // It can't fail: there is nothing to find wrong in settling.
            let _ = pace.pause(&self.region, || arm_wakeup(spot)).await;
        }
    }

    fn block(&mut self, time: Option<Duration>) -> Result<(), RegionError> {
        let region = self.region.clone();
        let mut patience = Patience::new(time, &region);
        loop {
            let spot = spot(&region.0.memory);
            if self.refresh() {
                return Ok(());
            }
            patience.pause(|| arm_wakeup(spot))?;
        }
    }
}

/// Where the newest number stands. To be asked before the look: a number that comes after it keeps
/// us from sleeping.
fn spot(memory: &Mapping) -> Spot {
    #[allow(clippy::cast_possible_truncation, reason = "a futex has 32 bits")]
    let expected = memory.load(slots::AT_NEWEST) as u32;
    Spot { at: slots::AT_NEWEST, expected, is_sign: false }
}

#[allow(clippy::unnecessary_wraps, reason = "as the ends of a ring do")]
fn arm_wakeup(spot: Spot) -> Result<Option<Spot>, RegionError> {
    reached("region.read.sleeping");
    Ok(Some(spot))
}

impl<T: ?Sized> Subscriber<T> {
    /// The same verbs, blocking the thread.
    pub fn blocking(&mut self) -> Blocking<&mut Self> {
        Blocking(self)
    }
}

impl Subscriber<[u8]> {
    /// The newest whole object, or the last good one; `None` if there has been none yet. A call
    /// that finds nothing new takes a look at one word.
    pub fn latest(&mut self) -> Option<Object<&[u8]>> {
        self.refresh();
        (self.number() != 0).then(|| self.current())
    }

    /// Waits for another object than the last one that this subscriber has read. Dropping the
    /// future loses nothing.
    ///
    /// A task looks some times at once, and then sleeps until something is published.
    pub async fn changed(&mut self) -> Object<&[u8]> {
        self.wait().await;
        self.current()
    }

    fn current(&self) -> Object<&[u8]> {
        Object { number: self.reader.number(), value: self.reader.bytes() }
    }
}

impl<T: DeserializeOwned> Subscriber<T> {
    /// The newest whole object, or the last good one; `None` if there has been none yet.
    ///
    /// An object that isn't a `T` is [`RegionError::Unreadable`]: its publisher isn't what it
    /// should be.
    pub fn latest(&mut self) -> Result<Option<Object<T>>, RegionError> {
        self.refresh();
        if self.number() == 0 { Ok(None) } else { self.current().map(Some) }
    }

    /// Waits for another object than the last one that this subscriber has read. Dropping the
    /// future loses nothing.
    ///
    /// A task looks some times at once, and then sleeps until something is published.
    pub async fn changed(&mut self) -> Result<Object<T>, RegionError> {
        self.wait().await;
        self.current()
    }

    fn current(&self) -> Result<Object<T>, RegionError> {
        let unreadable = |error| RegionError::Unreadable {
            region: self.region.name().clone(),
            wanted: std::any::type_name::<T>(),
            error,
        };
        let (value, rest) = postcard::take_from_bytes(self.reader.bytes()).map_err(unreadable)?;
        if !rest.is_empty() {
            return Err(unreadable(postcard::Error::DeserializeBadEncoding));
        }
        Ok(Object { number: self.reader.number(), value })
    }
}

impl<'a> Blocking<&'a mut Subscriber<[u8]>> {
    /// Waits for another object, at most for `time`.
    pub fn changed(self, time: Option<Duration>) -> Result<Object<&'a [u8]>, RegionError> {
        self.0.block(time)?;
        Ok(self.0.current())
    }
}

impl<T: DeserializeOwned> Blocking<&mut Subscriber<T>> {
    /// Waits for another object, at most for `time`.
    pub fn changed(self, time: Option<Duration>) -> Result<Object<T>, RegionError> {
        self.0.block(time)?;
        self.0.current()
    }
}

impl<T: ?Sized> fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Publisher({}, {})", self.held.0.name(), self.last)
    }
}

impl<T: ?Sized> fmt::Debug for Subscriber<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subscriber({}, {})", self.region.name(), self.reader.number())
    }
}
