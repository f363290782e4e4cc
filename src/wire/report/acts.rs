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
/// On a mapped file: so many bytes were committed as that generation.
pub const COMMIT: u32 = 1;
