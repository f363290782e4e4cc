//! What the helper that speaks with other hosts says to the supervisor: who meets whom. Fixed layout.

/// An instance of this host and one of another, which are introduced to each other on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meeting {
    /// The place of the one of this host.
    pub seat: u32,
    /// Its generation.
    pub life: u64,
    /// The channel's number in the plan.
    pub channel: u16,
    /// The copy of the other end's layer.
    pub copy: u16,
    /// Its generation.
    pub generation: u64,
    /// Which link between the two hosts it is, from 1; both count alike.
    pub link: u64,
    /// The public key (X25519) of the one of the other host.
    pub key: [u8; 32],
}

impl Meeting {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        [
            &self.seat.to_le_bytes()[..],
            &self.life.to_le_bytes(),
            &self.channel.to_le_bytes(),
            &self.copy.to_le_bytes(),
            &self.generation.to_le_bytes(),
            &self.link.to_le_bytes(),
            &self.key,
        ]
        .concat()
    }

    /// Reads them; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (seat, rest) = bytes.split_first_chunk()?;
        let (life, rest) = rest.split_first_chunk()?;
        let (channel, rest) = rest.split_first_chunk()?;
        let (copy, rest) = rest.split_first_chunk()?;
        let (generation, rest) = rest.split_first_chunk()?;
        let (link, key) = rest.split_first_chunk()?;
        Some(Self {
            seat: u32::from_le_bytes(*seat),
            life: u64::from_le_bytes(*life),
            channel: u16::from_le_bytes(*channel),
            copy: u16::from_le_bytes(*copy),
            generation: u64::from_le_bytes(*generation),
            link: u64::from_le_bytes(*link),
            key: key.try_into().ok()?,
        })
    }
}
