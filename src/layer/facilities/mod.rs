//! What a layer's code gets by name, one file a facility.

mod semaphore;
mod signal;
