//! Checking rates.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::policy::code::Code;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::document::{At, RateText};
use crate::policy::plan::Rate;

/// Nobody counts more messages than this in a second.
const MOST_A_SECOND: u128 = 1_000_000;
/// More lines than this in a second are no log any more.
const MOST_LINES_A_SECOND: u128 = 100_000;
/// Shorter is below what a clock and a scheduler keep, longer is no rate but a quota.
const PER: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(24);

/// So many messages, connections, lines or signals in a while.
pub(super) fn messages(rate: Option<&At<RateText>>, out: &mut Diagnostics) -> Option<Rate> {
    let rate = rate?;
    if rate.value.bytes {
        nonsense(rate, "this counts things, not bytes", "write a plain number, as in `500/s`", out);
        return None;
    }
    let plan = any(rate, out)?;
    if u128::from(plan.count) * 1000 > MOST_A_SECOND * plan.per.as_millis() {
        let help = "leave it out for no limit";
        nonsense(rate, "more than 1000000 in a second limit nothing", help, out);
        return None;
    }
    Some(plan)
}

/// So many lines of the log in a while. There is no way to have no limit.
pub(super) fn lines(rate: Option<&At<RateText>>, out: &mut Diagnostics) -> Option<Rate> {
    let plan = messages(rate, out)?;
    if let Some(rate) = rate
        && u128::from(plan.count) * 1000 > MOST_LINES_A_SECOND * plan.per.as_millis()
    {
        let help = "write at most `100000/s`";
        nonsense(rate, "so many lines would fill the disk", help, out);
        return None;
    }
    Some(plan)
}

/// So many bytes in a while.
pub(super) fn bytes(rate: Option<&At<RateText>>, out: &mut Diagnostics) -> Option<Rate> {
    any(rate?, out)
}

fn any(rate: &At<RateText>, out: &mut Diagnostics) -> Option<Rate> {
    let (help, RateText { count, per, .. }) = ("write how many in which time", rate.value);
    if count == 0 {
        nonsense(rate, "nothing would ever get through", "take out what is not to happen", out);
    } else if !PER.contains(&per) {
        nonsense(rate, "the time is from 1ms to 24h", help, out);
    } else if let Ok(count) = u32::try_from(count) {
        return Some(Rate { count, per });
    } else {
        nonsense(rate, "a rate counts to 4294967295", "write a shorter time", out);
    }
    None
}

fn nonsense(rate: &At<RateText>, why: &str, help: &str, out: &mut Diagnostics) {
    out.error(Code::RateNonsense, &rate.span, "a rate that makes no sense").label(why).help(help);
}
