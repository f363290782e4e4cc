//! Wire formats: what crosses between processes, encoded and checked. Pure.

pub mod limits;
pub mod record;
