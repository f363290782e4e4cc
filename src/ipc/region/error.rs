//! What can go wrong with a region, by who is to blame.

use std::io;

use crate::ident::Name;

/// Why a region can't be used as asked.
#[derive(Debug, thiserror::Error)]
pub enum RegionError {
    /// The policy lets this layer read only.
    #[error("`[region.{region}] grant = {{ {layer} = \"r\" }}`: to {act}, it would need \"rw\"")]
    ReadOnly {
        /// The region.
        region: Name,
        /// This layer.
        layer: Name,
        /// What was tried.
        act: &'static str,
    },
    /// The object or message is larger than the region takes.
    #[error(
        "`[region.{region}] size`: this {what} has {bytes} bytes, and the largest that fits has \
         {most}"
    )]
    TooLarge {
        /// The region.
        region: Name,
        /// `object` or `message`.
        what: &'static str,
        /// Its size in bytes.
        bytes: usize,
        /// The largest, in bytes.
        most: usize,
    },
    /// Bytes outside of the region were asked for.
    #[error(
        "`[region.{region}] size`: {bytes} bytes at {offset} don't lie within its {size} bytes"
    )]
    Outside {
        /// The region.
        region: Name,
        /// Where.
        offset: usize,
        /// How many.
        bytes: usize,
        /// The region's size in bytes.
        size: usize,
    },
    /// Somebody else has this part in the region already.
    #[error(
        "[region.{region}] has a {role} already, and takes one: another copy of this layer, another \
         layer with \"rw\", or another handle in this process"
    )]
    Taken {
        /// The region.
        region: Name,
        /// The part.
        role: &'static str,
    },
    /// The region is used in another way: slots on one side, a ring on the other.
    #[error("[region.{region}] holds something else than {wanted}")]
    OtherUse {
        /// The region.
        region: Name,
        /// What was expected.
        wanted: &'static str,
    },
    /// The other end broke the ring's rules: what it wrote there can't be.
    #[error("[region.{region}] the other end of the ring broke its rules: {what}")]
    Broken {
        /// The region.
        region: Name,
        /// What can't be.
        what: &'static str,
    },
    /// What was published is whole, but no object of the type that was asked for.
    #[error("[region.{region}] what was published there is no {wanted}: {error}")]
    Unreadable {
        /// The region.
        region: Name,
        /// The type.
        wanted: &'static str,
        /// Why.
        error: postcard::Error,
    },
    /// An object can't be written as bytes.
    #[error("[region.{region}] the object can't be encoded: {error}")]
    Encoding {
        /// The region.
        region: Name,
        /// Why.
        error: postcard::Error,
    },
    /// The time to wait has passed.
    #[error("nothing came in time")]
    Timeout,
    /// The layer has been asked to finish while it waited.
    #[error("the layer has been asked to stop")]
    Stopping,
    /// The system refused.
    #[error(transparent)]
    System(#[from] io::Error),
}
