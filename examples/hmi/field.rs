//! The controller's registers: what the plant serves by Modbus TCP, and the gateway reads.
//!
//! | registers | address | what |
//! |---|---|---|
//! | input | 0 | level, hundredths of a percent |
//! | input | 1 | temperature, tenths of a degree |
//! | input | 2, 3 | flow in and out, litres a minute |
//! | input | 4 | how often the plant came to harm |
//! | input | 5 | 1: shut off, because the heartbeat stands still |
//! | holding | 0 to 2 | set points of pump, valve and heater, tenths of a percent |
//! | holding | 3 | heartbeat: any number, if it is another one than before |

use super::protocol::Image;

/// How many input registers there are.
pub(crate) const INPUTS: u16 = 6;

/// How many holding registers there are.
pub(crate) const HOLDING: u16 = 4;

/// Where the heartbeat is among the holding registers.
pub(crate) const HEARTBEAT: u16 = 3;

/// The largest set point.
pub(crate) const FULL: u16 = 1000;

/// Makes an image of what was read at `at`. `None` if no such plant could say this: a field device
/// is a stranger too.
pub(crate) fn image(at: u64, inputs: &[u16], holding: &[u16]) -> Option<Image> {
    let &[level, temperature, inflow, outflow, damage, shut_off] = inputs else { return None };
    let &[pump, valve, heater, _] = holding else { return None };
    let set = [pump, valve, heater];
    let plausible = level <= 10_000
        && temperature <= 2_000
        && shut_off <= 1
        && set.iter().all(|value| *value <= FULL);
    let is_shut_off = shut_off == 1;
    plausible.then_some(Image { at, level, temperature, inflow, outflow, damage, set, is_shut_off })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_of_the_field_is_no_image() {
        let good = ([5000, 200, 10, 10, 0, 0], [1000, 0, 0, 77]);
        assert_eq!(image(7, &good.0, &good.1).unwrap().set, [1000, 0, 0]);
        assert_eq!(image(7, &good.0[..5], &good.1), None);
        assert_eq!(image(7, &good.0, &good.1[..3]), None);
        for (place, value) in [(0, 10_001), (1, 2_001), (5, 2)] {
            let mut bad = good.0;
            bad[place] = value;
            assert_eq!(image(7, &bad, &good.1), None, "{place}");
        }
        assert_eq!(image(7, &good.0, &[1001, 0, 0, 0]), None);
    }
}
