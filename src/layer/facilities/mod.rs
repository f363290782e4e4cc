//! What a layer asks for by name, one file a facility.

mod socket;

pub use self::socket::LayerConnectError;
