//! Durations, counted in bounded memory: 32 steps for each doubling, so that a quantile is at most
//! 3.2 % too large.

/// Steps for each doubling.
const STEPS: u64 = 32;
const SHIFT: u32 = STEPS.trailing_zeros();

/// Durations in nanoseconds.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Histogram {
    counts: Vec<u64>,
    /// How many there are.
    pub(in crate::cli) total: u64,
    /// The longest.
    pub(in crate::cli) max: u64,
}

impl Histogram {
    /// Counts one.
    pub(in crate::cli) fn add(&mut self, value: u64) {
        let place = place(value);
        if self.counts.len() <= place {
            self.counts.resize(place + 1, 0);
        }
        self.counts[place] += 1;
        self.total += 1;
        self.max = self.max.max(value);
    }

    /// Takes another's durations in.
    pub(in crate::cli) fn join(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// What so many of a thousand don't exceed; `None` if there are none.
    pub(in crate::cli) fn quantile(&self, thousandths: u64) -> Option<u64> {
        let wanted = (u128::from(self.total) * u128::from(thousandths)).div_ceil(1_000).max(1);
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += u128::from(*count);
            if seen >= wanted {
                return Some(largest(place).min(self.max));
            }
        }
        None
    }
}

/// Where a value is counted: the first 64 each for itself, then by its leading bits.
fn place(value: u64) -> usize {
    let double = value.max(1).ilog2().saturating_sub(SHIFT);
    usize::try_from(u64::from(double) * STEPS + (value >> double)).unwrap_or(usize::MAX)
}

/// The largest value that is counted there.
fn largest(place: usize) -> u64 {
    let place = place as u64;
    let double = (place / STEPS).saturating_sub(1);
    let lead = place - double * STEPS;
    (((u128::from(lead) + 1) << double) - 1).min(u64::MAX.into()).try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_lies_in_its_place() {
        let mut before = 0;
        let values = (0..4_096).chain((12..64).flat_map(|bit| {
            let power = 1_u64 << bit;
            [power - 1, power, power + 1, power + power / 3]
        }));
        for value in values.chain([u64::MAX]) {
            let at = place(value);
            assert!(at >= before, "{value}");
            before = at;
            assert!(largest(at) >= value, "{value}");
            assert!(largest(at) - value <= value / 31, "{value} {}", largest(at));
            assert!(at == 0 || largest(at - 1) < value, "{value}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(500), None);
        (1..=1_000).for_each(|value| histogram.add(value * 1_000));
        for (thousandths, exact) in [(500, 500_000), (990, 990_000), (1, 1_000)] {
            let found = histogram.quantile(thousandths).unwrap();
            assert!((exact..=exact + exact / 31).contains(&found), "{thousandths}: {found}");
        }
        let mut both = histogram.clone();
        both.join(&histogram);
        assert_eq!(both.quantile(500), histogram.quantile(500));
        assert_eq!(
            (both.total, both.max, both.quantile(1_000)),
            (2_000, 1_000_000, Some(1_000_000))
        );
    }
}
