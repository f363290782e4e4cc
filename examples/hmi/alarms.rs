//! Which alarms there are, and when each is on: the rules of the alarm logic.

use super::protocol::{Alarm, Happened, Image};

/// One thing to watch.
struct Watch {
    text: &'static str,
    urgency: u8,
    /// How many looks it has to last before it is an alarm, and no passing state of a start.
    looks: u8,
    /// Whether it is on; the second is whether it was, so that a value at a bound doesn't flutter.
    is_on: fn(&Seen<'_>, bool) -> bool,
}

/// What is known of the plant.
struct Seen<'a> {
    /// `None`: nothing that is fresh.
    image: Option<&'a Image>,
    /// How often it had come to harm when this life began to look.
    harmed: u16,
}

fn above(value: Option<u16>, bound: u16, gap: u16, was_on: bool) -> bool {
    value.is_some_and(|value| value > if was_on { bound - gap } else { bound })
}

fn below(value: Option<u16>, bound: u16, gap: u16, was_on: bool) -> bool {
    value.is_some_and(|value| value < if was_on { bound + gap } else { bound })
}

const WATCHED: [Watch; 7] = [
    Watch {
        text: "the field doesn't answer: what the screen shows is old",
        urgency: 3,
        looks: 10,
        is_on: |seen, _| seen.image.is_none(),
    },
    Watch {
        text: "the tank is about to run over",
        urgency: 3,
        looks: 1,
        is_on: |seen, was| above(seen.image.map(|it| it.level), 9_000, 300, was),
    },
    Watch {
        text: "the plant has come to harm",
        urgency: 3,
        looks: 1,
        is_on: |seen, was| was || seen.image.is_some_and(|it| it.damage > seen.harmed),
    },
    Watch {
        text: "it is too hot",
        urgency: 2,
        looks: 1,
        is_on: |seen, was| above(seen.image.map(|it| it.temperature), 780, 20, was),
    },
    Watch {
        text: "the tank is nearly full",
        urgency: 1,
        looks: 1,
        is_on: |seen, was| above(seen.image.map(|it| it.level), 8_000, 300, was),
    },
    Watch {
        text: "the tank is nearly empty",
        urgency: 1,
        looks: 1,
        is_on: |seen, was| below(seen.image.map(|it| it.level), 1_000, 300, was),
    },
    Watch {
        text: "the controller has shut everything off: it heard nothing from here",
        urgency: 2,
        looks: 10,
        is_on: |seen, _| seen.image.is_some_and(|it| it.is_shut_off),
    },
];

/// The alarms, and what there was.
pub(crate) struct Alarms {
    harmed: Option<u16>,
    /// By place in [`WATCHED`]; `None` is off, and seen.
    now: [Option<Alarm>; WATCHED.len()],
    /// For how many looks each has lasted that is no alarm yet.
    lasts: [u8; WATCHED.len()],
    last: u32,
}

impl Alarms {
    pub(crate) fn new() -> Self {
        Self {
            harmed: None,
            now: [const { None }; WATCHED.len()],
            lasts: [0; WATCHED.len()],
            last: 0,
        }
    }

    /// Looks at the plant, `None` if it can't be seen, and says what changed.
    pub(crate) fn look(&mut self, image: Option<&Image>) -> Vec<Happened> {
        if let (None, Some(image)) = (self.harmed, image) {
            self.harmed = Some(image.damage);
        }
        let seen = Seen { image, harmed: self.harmed.unwrap_or_default() };
        let mut happened = Vec::new();
        for ((watch, now), lasts) in WATCHED.iter().zip(&mut self.now).zip(&mut self.lasts) {
            let was_on = now.as_ref().is_some_and(|alarm| alarm.is_on);
            let is_on = (watch.is_on)(&seen, was_on);
            *lasts = if is_on && !was_on { *lasts + 1 } else { 0 };
            if is_on == was_on || is_on && *lasts < watch.looks {
                continue;
            }
            let words =
                if is_on { watch.text.to_owned() } else { format!("no more: {}", watch.text) };
            happened.push(Happened::now("alarm", words, watch.urgency));
            if is_on {
                self.last += 1;
                *now = Some(Alarm {
                    number: self.last,
                    text: watch.text.to_owned(),
                    urgency: watch.urgency,
                    is_on,
                    acknowledged: None,
                });
            } else if let Some(alarm) = now {
                alarm.is_on = false;
                if alarm.acknowledged.is_some() {
                    *now = None;
                }
            }
        }
        happened
    }

    /// Somebody has seen alarm `number`. `None` if there is no such alarm, or somebody had.
    pub(crate) fn acknowledge(&mut self, number: u32, who: &str) -> Option<Happened> {
        let now =
            self.now.iter_mut().find(|it| it.as_ref().is_some_and(|it| it.number == number))?;
        let alarm = now.as_mut()?;
        if alarm.acknowledged.is_some() {
            return None;
        }
        alarm.acknowledged = Some(who.to_owned());
        let happened = Happened::now(who, format!("has seen: {}", alarm.text), 0);
        if !alarm.is_on {
            *now = None;
        }
        Some(happened)
    }

    /// Those that are on, or that nobody has seen; the most urgent first.
    pub(crate) fn list(&self) -> Vec<Alarm> {
        let mut list: Vec<Alarm> = self.now.iter().flatten().cloned().collect();
        list.sort_by_key(|alarm| (std::cmp::Reverse(alarm.urgency), alarm.number));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(level: u16) -> Image {
        Image { level, temperature: 300, ..Image::default() }
    }

    fn texts(alarms: &Alarms) -> Vec<String> {
        alarms.list().into_iter().map(|alarm| alarm.text).collect()
    }

    #[test]
    fn an_alarm_stays_until_it_is_over_and_seen() {
        let mut alarms = Alarms::new();
        assert!(alarms.look(Some(&image(5_000))).is_empty());
        assert_eq!(alarms.look(Some(&image(8_001))).len(), 1);
        // A value at the bound doesn't flutter.
        assert!(alarms.look(Some(&image(7_900))).is_empty());
        assert_eq!(alarms.look(Some(&image(7_000))).len(), 1);
        let [alarm] = &alarms.list()[..] else { panic!("{:?}", alarms.list()) };
        assert!(!alarm.is_on);
        assert!(alarms.acknowledge(99, "ann").is_none());
        assert!(alarms.acknowledge(alarm.number, "ann").is_some());
        assert!(alarms.list().is_empty());
        // The next time is another alarm.
        alarms.look(Some(&image(8_001)));
        assert!(alarms.acknowledge(1, "ann").is_none());
        assert!(alarms.acknowledge(2, "ann").is_some());
        assert_eq!(alarms.list().len(), 1);
        alarms.look(Some(&image(7_000)));
        assert!(alarms.list().is_empty());
    }

    #[test]
    fn the_urgent_stand_first() {
        let mut alarms = Alarms::new();
        alarms.look(Some(&image(5_000)));
        alarms.look(Some(&Image { damage: 1, ..image(9_500) }));
        let urgencies: Vec<u8> = alarms.list().iter().map(|alarm| alarm.urgency).collect();
        assert_eq!(urgencies, [3, 3, 1]);
        assert!(alarms.look(None).iter().all(|it| !it.text.starts_with("the field")));
        for _ in 1..10 {
            alarms.look(None);
        }
        assert!(texts(&alarms)[..3].iter().any(|it| it.contains("doesn't answer")));
    }

    #[test]
    fn harm_of_a_former_life_is_no_news() {
        let mut alarms = Alarms::new();
        assert!(alarms.look(Some(&Image { damage: 3, ..image(5_000) })).is_empty());
        assert_eq!(alarms.look(Some(&Image { damage: 4, ..image(5_000) })).len(), 1);
    }
}
