//! What the layers say to each other. `policies/hmi.toml` says who may say it to whom.

use std::fmt;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// What moves in the plant. Each takes a set point from 0 to 1000, in tenths of a percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Actuator {
    /// Fills the tank.
    Pump,
    /// Empties it.
    Valve,
    /// Warms what is in it.
    Heater,
}

impl Actuator {
    #[allow(dead_code, reason = "for tests")]
    pub(crate) const ALL: [Self; 3] = [Self::Pump, Self::Valve, Self::Heater];

    /// Its place among the three, and its register.
    pub(crate) const fn place(self) -> usize {
        match self {
            Self::Pump => 0,
            Self::Valve => 1,
            Self::Heater => 2,
        }
    }
}

impl fmt::Display for Actuator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pump => "the pump",
            Self::Valve => "the valve",
            Self::Heater => "the heater",
        })
    }
}

/// A set point in the words of people: 305 is `30.5 %`.
pub(crate) fn percent(value: u16) -> String {
    format!("{}.{} %", value / 10, value % 10)
}

/// What the gateway read from the controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Image {
    /// When, in milliseconds of the clock that all layers share ([`now`]).
    pub at: u64,
    /// How full the tank is, in hundredths of a percent.
    pub level: u16,
    /// Tenths of a degree Celsius.
    pub temperature: u16,
    /// Litres a minute.
    pub inflow: u16,
    /// Litres a minute.
    pub outflow: u16,
    /// How often the plant came to harm since it was switched on.
    pub damage: u16,
    /// The set points that the controller has.
    pub set: [u16; 3],
    /// The controller heard nothing from us, and has shut everything off by itself.
    pub is_shut_off: bool,
}

/// An image that is older says nothing any more.
pub(crate) const FRESH: Duration = Duration::from_secs(1);

impl Image {
    /// Whether it still tells how the plant is.
    pub(crate) fn is_fresh(&self, now: u64) -> bool {
        Duration::from_millis(now.saturating_sub(self.at)) < FRESH
    }
}

/// Milliseconds since the machine was started: the same for every process on it.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds * 1000 + u64::try_from(time.tv_nsec).unwrap_or_default() / 1_000_000
}

/// By which a request names its operator. Only the interlock makes one.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Token(pub [u8; 16]);

impl Token {
    pub(crate) fn show(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }

    pub(crate) fn read(text: &str) -> Option<Self> {
        // 32 digits and nothing else: a sign would be one too.
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|_| is_hex)?;
        Some(Self(number.to_be_bytes()))
    }
}

impl fmt::Debug for Token {
    /// Who reads a log must not become an operator.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// `requests.log-in`: a name and a code.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LogIn {
    pub name: String,
    pub code: String,
}

/// Its answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Welcome {
    pub token: Token,
    /// Whether this operator may set anything, or only look and acknowledge.
    pub may_set: bool,
    /// The last set points that were let through, also if that was before a power cut.
    pub last: [u16; 3],
}

/// `requests.set`: an operator wants an actuator to have a value.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ask {
    pub token: Token,
    /// Larger than that of all this operator's requests before.
    pub number: u64,
    pub actuator: Actuator,
    pub value: u16,
}

/// `requests.acknowledge`: an operator has seen an alarm.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub token: Token,
    pub number: u64,
    pub alarm: u32,
}

/// What has become of a request: who asked, and yes, or why not. Kept in the audit log, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Decision {
    pub who: String,
    pub what: String,
    pub refused: Option<String>,
}

/// `setpoints.set`: what the interlock let through.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SetPoint {
    pub actuator: Actuator,
    pub value: u16,
    /// Of the interlock's lease on the actuators: the gateway turns an older one away.
    pub fence: u64,
}

/// `acknowledgements.acknowledge`: who has seen which alarm.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Acknowledgement {
    pub alarm: u32,
    pub who: String,
}

/// An alarm that is on, or that nobody has acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Alarm {
    pub number: u32,
    pub text: String,
    /// 0 to 3; 3 is what can't wait.
    pub urgency: u8,
    pub is_on: bool,
    pub acknowledged: Option<String>,
}

/// What happened: for the operators' list, and for the historian.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Happened {
    /// Milliseconds since 1970.
    pub at: u64,
    /// Who or what did it: an operator, `interlock`, `alarm`.
    pub who: String,
    pub text: String,
    pub urgency: u8,
}

impl Happened {
    pub(crate) fn now(who: &str, text: String, urgency: u8) -> Self {
        let time = clock_gettime(ClockId::Realtime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let at = seconds * 1000 + u64::try_from(time.tv_nsec).unwrap_or_default() / 1_000_000;
        Self { at, who: who.to_owned(), text, urgency }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_and_read() {
        let token = Token([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff]);
        assert_eq!(Token::read(&token.show()), Some(token));
        for bad in ["", "0", "+1234567890123456789012345678901", &token.show()[1..]] {
            assert_eq!(Token::read(bad), None, "{bad}");
        }
    }
}
