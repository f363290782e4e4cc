//! What may be set when: the rules of the interlock, and nothing else.
//!
//! They look at the plant as it is, at what it is set to, and at what is asked. Who asks is settled
//! before ([`super::operators`]).

use std::fmt;

use super::protocol::{Actuator, Image, percent};

/// Bounds on one actuator.
struct Bounds {
    /// The highest set point.
    most: u16,
    /// The most that one request raises it by.
    step: u16,
}

/// Below what the plant can bear, each with room for the time that a trip takes.
const fn bounds(actuator: Actuator) -> Bounds {
    match actuator {
        Actuator::Pump => Bounds { most: 800, step: 200 },
        Actuator::Valve => Bounds { most: 1000, step: 500 },
        Actuator::Heater => Bounds { most: 600, step: 200 },
    }
}

/// The time between two changes of one actuator, in milliseconds.
const PAUSE: u64 = 500;

/// Above this the pump may not be raised, and above the second it is switched off.
const LEVEL_HIGH: u16 = 8_500;
const LEVEL_TRIP: u16 = 9_000;

/// Below this the heater may not be raised, and below the second it is switched off.
const LEVEL_LOW: u16 = 2_000;
const LEVEL_DRY: u16 = 1_500;

/// Above this the heater may not be raised, and above the second it is switched off.
const WARM: u16 = 750;
const HOT: u16 = 800;

/// Why a set point was refused. Displays as the operator reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Most(Actuator, u16),
    Step(Actuator, u16),
    Pause(Actuator),
    Level(Actuator, &'static str, u16),
    Hot(u16),
    Blind,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Most(actuator, most) => {
                write!(f, "{actuator} goes to {} at most", percent(*most))
            }
            Self::Step(actuator, step) => {
                write!(f, "{actuator} is raised by {} at once at most", percent(*step))
            }
            Self::Pause(actuator) => {
                write!(f, "{actuator} was changed less than {PAUSE} ms ago")
            }
            Self::Level(actuator, how, level) => {
                let level = percent(level / 10);
                write!(f, "{actuator} isn't raised while the tank is {how}: {level}")
            }
            Self::Hot(temperature) => {
                let (degrees, tenths) = (temperature / 10, temperature % 10);
                write!(f, "the heater isn't raised at {degrees}.{tenths} degrees")
            }
            Self::Blind => f.write_str("nothing is raised while the plant can't be seen"),
        }
    }
}

/// Whether an actuator may be set to this now. To lower one is always allowed, whatever is known:
/// nothing here harms the plant by standing still.
///
/// `image` is the newest one, if it is fresh; `changed` when this actuator was set last.
pub(crate) fn judge(
    actuator: Actuator,
    value: u16,
    image: Option<&Image>,
    changed: Option<u64>,
    now: u64,
) -> Result<(), Refusal> {
    let bounds = bounds(actuator);
    if value > bounds.most {
        return Err(Refusal::Most(actuator, bounds.most));
    }
    let Some(image) = image else {
        // Where it stands isn't known either, so that only all the way down is down for sure.
        return if value == 0 { Ok(()) } else { Err(Refusal::Blind) };
    };
    let current = image.set[actuator.place()];
    if value <= current {
        return Ok(());
    }
    if value - current > bounds.step {
        return Err(Refusal::Step(actuator, bounds.step));
    }
    if changed.is_some_and(|at| now.saturating_sub(at) < PAUSE) {
        return Err(Refusal::Pause(actuator));
    }
    let level = image.level;
    match actuator {
        Actuator::Pump if level > LEVEL_HIGH => Err(Refusal::Level(actuator, "full", level)),
        Actuator::Heater if level < LEVEL_LOW => Err(Refusal::Level(actuator, "empty", level)),
        Actuator::Heater if image.temperature > WARM => Err(Refusal::Hot(image.temperature)),
        _ => Ok(()),
    }
}

/// What has to be switched off at once, and why, whoever set it.
pub(crate) fn trips(image: &Image) -> Vec<(Actuator, &'static str)> {
    let all = [
        (Actuator::Pump, image.level > LEVEL_TRIP, "the tank is too full"),
        (Actuator::Heater, image.level < LEVEL_DRY, "the tank is too empty"),
        (Actuator::Heater, image.temperature > HOT, "it is too hot"),
    ];
    let due = |actuator: Actuator| image.set[actuator.place()] > 0;
    all.into_iter()
        .filter(|(actuator, trips, _)| *trips && due(*actuator))
        .map(|(actuator, _, why)| (actuator, why))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        Image { level: 5_000, temperature: 300, ..Image::default() }
    }

    fn asked(actuator: Actuator, value: u16, image: &Image) -> Result<(), Refusal> {
        judge(actuator, value, Some(image), None, 1_000)
    }

    #[test]
    fn nothing_goes_past_its_bounds() {
        for actuator in Actuator::ALL {
            for value in 0..=u16::MAX {
                let mut image = image();
                image.set = [value; 3];
                // Also where the controller itself is already past them.
                let (most, may) = (bounds(actuator).most, asked(actuator, value, &image));
                assert_eq!(may.is_ok(), value <= most, "{actuator} to {value}");
            }
        }
    }

    #[test]
    fn raises_are_small_and_rare() {
        assert_eq!(asked(Actuator::Pump, 200, &image()), Ok(()));
        assert_eq!(asked(Actuator::Pump, 201, &image()), Err(Refusal::Step(Actuator::Pump, 200)));
        let soon = judge(Actuator::Pump, 100, Some(&image()), Some(600), 1_000);
        assert_eq!(soon, Err(Refusal::Pause(Actuator::Pump)));
        assert_eq!(judge(Actuator::Pump, 100, Some(&image()), Some(500), 1_000), Ok(()));
        // Down it goes at any time.
        let running = Image { set: [800; 3], ..image() };
        assert_eq!(judge(Actuator::Pump, 0, Some(&running), Some(999), 1_000), Ok(()));
    }

    #[test]
    fn the_plant_decides_what_is_raised() {
        let full = Image { level: 8_501, ..image() };
        assert!(asked(Actuator::Pump, 1, &full).is_err());
        assert_eq!(asked(Actuator::Valve, 500, &full), Ok(()));
        let empty = Image { level: 1_999, ..image() };
        assert!(asked(Actuator::Heater, 1, &empty).is_err());
        assert_eq!(asked(Actuator::Pump, 100, &empty), Ok(()));
        let warm = Image { temperature: 751, ..image() };
        assert!(asked(Actuator::Heater, 1, &warm).is_err());
        for actuator in Actuator::ALL {
            assert_eq!(judge(actuator, 1, None, None, 0), Err(Refusal::Blind));
            assert_eq!(judge(actuator, 0, None, None, 0), Ok(()));
        }
    }

    #[test]
    fn what_is_dangerous_is_switched_off() {
        let running = Image { set: [100, 100, 100], ..image() };
        assert_eq!(trips(&running), []);
        let names = |image: Image| trips(&image).into_iter().map(|(it, _)| it).collect::<Vec<_>>();
        assert_eq!(names(Image { level: 9_001, ..running.clone() }), [Actuator::Pump]);
        assert_eq!(names(Image { level: 1_499, ..running.clone() }), [Actuator::Heater]);
        assert_eq!(names(Image { temperature: 801, ..running.clone() }), [Actuator::Heater]);
        // What is off needs no trip.
        assert_eq!(names(Image { level: 9_001, set: [0, 100, 100], ..running }), []);
    }
}
