//! What a layer asks for by name, one file a facility.

mod message;
