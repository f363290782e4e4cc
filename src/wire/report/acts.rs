//! What a facility was used for, where its reports have a method that is no method of a channel,
//! no signal, and none of the bits in which a file is opened ([`open`](crate::wire::broker::open)).

/// On a region: it was mapped. The length is its size. Of plain bytes that are read or written
/// there no more is reported.
pub const MAP: u32 = 0;
/// On a region: an object of that number and length was published, or read for the first time.
pub const OBJECT: u32 = 1;
/// On a region: so many messages went through its ring since the report before, and with them as
/// many as the sequence says.
pub const RING: u32 = 2;
/// On a semaphore: a permit was asked for.
pub const ACQUIRE: u32 = 1;
/// On a semaphore: a lease was given back.
pub const RELEASE: u32 = 2;
/// On a semaphore: a lease ran out.
pub const EXPIRE: u32 = 3;
/// On a queue: the oldest message was to go for a newer one.
pub const MAKE_ROOM: u32 = 1;
/// On a mapped file: so many bytes were committed as that generation.
pub const COMMIT: u32 = 1;
