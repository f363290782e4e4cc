//! How a layer's code asks for each facility by name.

mod pipe;
