//! What a layer's code asks for by name, a file for each facility.

mod message;
mod queue;
