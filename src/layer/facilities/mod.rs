//! How a layer's code asks for each facility by name.

mod fifo;
mod pipe;
