//! How many lines of each layer are shown: as many in a while as the policy says, and ten seconds'
//! worth at once. What is more is counted and told of.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::ident::Name;
use crate::policy::plan::{LogPlan, Rate};

/// What comes at once at most is what may come in this time, or in that of the rate if it is longer.
const AT_ONCE: Duration = Duration::from_secs(10);

/// How often it is told that a layer loses lines.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What each layer has had shown. All of its instances share it, in all of their lives.
#[derive(Debug, Default)]
pub(super) struct Rates(BTreeMap<Name, Gauge>);

/// What one layer has had shown.
#[derive(Debug)]
struct Gauge {
    rate: Rate,
    /// When it would have had nothing shown for so long that all may come at once again: the
    /// generic cell rate algorithm's theoretical time of arrival.
    full_at: Instant,
    /// What was dropped since that was told.
    lost: Lost,
    told: Option<Instant>,
}

/// What was dropped.
#[derive(Clone, Copy, Debug, Default)]
struct Lost {
    lines: u64,
    bytes: u64,
}

impl Rates {
    /// What is known of a layer; it is looked up as `found` says the first time.
    fn gauge(&mut self, layer: &Name, found: impl FnOnce() -> LogPlan, now: Instant) -> &mut Gauge {
        self.0.entry(layer.clone()).or_insert_with(|| Gauge {
            rate: found().rate,
            full_at: now,
            lost: Lost::default(),
            told: None,
        })
    }

    /// Whether so many lines of a layer may be shown now. What may not is counted as lost.
    pub(super) fn admits(
        &mut self,
        layer: &Name,
        plan: impl FnOnce() -> LogPlan,
        (units, bytes): (u32, usize),
        now: Instant,
    ) -> bool {
        let gauge = self.gauge(layer, plan, now);
        let admitted = gauge.takes(units, now);
        if !admitted {
            gauge.lost.lines += 1;
            gauge.lost.bytes += bytes as u64;
        }
        admitted
    }

    /// What was counted as lost is shown after all.
    pub(super) fn forgive(&mut self, layer: &Name, bytes: usize) {
        if let Some(gauge) = self.0.get_mut(layer) {
            gauge.lost.lines = gauge.lost.lines.saturating_sub(1);
            gauge.lost.bytes = gauge.lost.bytes.saturating_sub(bytes as u64);
        }
    }

    /// When there is something to tell.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.values().filter_map(Gauge::tells_at).min()
    }

    /// What is to be told by now, a line for each layer.
    pub(super) fn due(&mut self, now: Instant) -> Vec<String> {
        let due = |gauge: &Gauge| gauge.tells_at().is_some_and(|at| at <= now);
        let all = self.0.iter_mut().filter(|(_, gauge)| due(gauge));
        all.filter_map(|(layer, gauge)| gauge.tell(layer, now)).collect()
    }

    /// What is to be told of a layer, or of all, whenever that was last.
    pub(super) fn tell(&mut self, layer: Option<&Name>, now: Instant) -> Vec<String> {
        let all = self.0.iter_mut().filter(|(name, _)| layer.is_none_or(|it| it == *name));
        all.filter_map(|(layer, gauge)| gauge.tell(layer, now)).collect()
    }
}

impl Gauge {
    fn takes(&mut self, units: u32, now: Instant) -> bool {
        let each = self.rate.per / self.rate.count.max(1);
        let at_once = self.rate.per.max(AT_ONCE);
        let begin = self.full_at.max(now);
        // Each line is let in as long as there is any room: a long one is no more unlucky.
        if begin.duration_since(now) >= at_once {
            return false;
        }
        self.full_at = begin + each * units;
        true
    }

    fn tells_at(&self) -> Option<Instant> {
        let soon = self.full_at.checked_sub(self.rate.per.max(AT_ONCE)).unwrap_or(self.full_at);
        (self.lost.lines > 0).then(|| self.told.map_or(soon, |told| told + TOLD_EVERY))
    }

    fn tell(&mut self, layer: &Name, now: Instant) -> Option<String> {
        let Lost { lines, bytes } = std::mem::take(&mut self.lost);
        let Rate { count, per } = self.rate;
        (lines > 0).then(|| {
            self.told = Some(now);
            let lines = if lines == 1 { "1 line".to_owned() } else { format!("{lines} lines") };
            format!(
                "{lines} of {layer} ({bytes} bytes) were dropped: it prints more than {count} lines \
                 in {per:?} ([layer.{layer}] log.rate)"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_counted_and_told_of() {
        let (mut rates, begin) = (Rates::default(), Instant::now());
        let name = Name::new("a").unwrap();
        let plan = || LogPlan {
            rate: Rate { count: 10, per: Duration::from_secs(1) },
            ..LogPlan::default()
        };
        let mut shown = 0;
        for _ in 0..1000 {
            shown += u32::from(rates.admits(&name, plan, (1, 5), begin));
        }
        assert_eq!(shown, 100);
        let lines = rates.due(begin);
        let told = "900 lines of a (4500 bytes) were dropped: it prints more than 10 lines in 1s \
                    ([layer.a] log.rate)";
        assert_eq!(lines, [told]);
        // A second later ten more have room, and another layer was never concerned.
        let later = begin + Duration::from_secs(1);
        let more = (0..100).filter(|_| rates.admits(&name, plan, (1, 5), later)).count();
        assert_eq!(more, 10);
        assert!(rates.admits(&Name::new("b").unwrap(), plan, (1, 5), begin));
        assert!(rates.due(later).is_empty());
        assert_eq!(rates.deadline(), Some(begin + TOLD_EVERY));
        assert_eq!(rates.due(begin + TOLD_EVERY).len(), 1);
        assert!(rates.tell(None, later).is_empty());
    }

    #[test]
    fn a_rate_of_a_day_may_come_at_once() {
        let (mut rates, now) = (Rates::default(), Instant::now());
        let name = Name::new("a").unwrap();
        let plan = || LogPlan {
            rate: Rate { count: 24, per: Duration::from_hours(24) },
            ..LogPlan::default()
        };
        let shown = (0..100).filter(|_| rates.admits(&name, plan, (1, 1), now)).count();
        assert_eq!(shown, 24);
        // Long lines count for more.
        let name = Name::new("b").unwrap();
        let shown = (0..100).filter(|_| rates.admits(&name, plan, (8, 2048), now)).count();
        assert_eq!(shown, 3);
    }
}
