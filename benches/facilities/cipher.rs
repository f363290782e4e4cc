//! What the cipher alone takes: sealing and opening in place, with nothing around.

use std::hint::black_box;
use std::time::Instant;

use cofferdam::seal::aead::{Aead, Chosen, nonce};
use cofferdam::seal::secret::Key;

const COUNT: u64 = 2_000;
const ROUNDS: usize = 7;

/// The median time to seal `size` bytes in records of `record` bytes at most, and to open them, in
/// nanoseconds.
pub(crate) fn nanos(size: usize, record: usize) -> (f64, f64) {
    let cipher = Chosen::new(&Key::take(&mut [7; 32]));
    let (whole, rest) = (size / record, size % record);
    let (whole_seal, whole_open) = one(&cipher, record.min(size));
    let (rest_seal, rest_open) = if rest > 0 { one(&cipher, rest) } else { (0.0, 0.0) };
    let times = whole as f64;
    (times * whole_seal + rest_seal, times * whole_open + rest_open)
}

fn one(cipher: &Chosen, size: usize) -> (f64, f64) {
    let count = if size > 4096 { COUNT / 20 } else { COUNT };
    let plain = vec![1; size];
    let mut seals = Vec::new();
    let mut opens = Vec::new();
    for _ in 0..ROUNDS {
        let mut body = plain.clone();
        let begin = Instant::now();
        for number in 0..count {
            black_box(cipher.seal(&nonce(number), b"0123", black_box(&mut body)).expect("sealed"));
        }
        seals.push(begin.elapsed().as_nanos() as f64 / count as f64);
        // Opening changes what it opens, so each is sealed once more; the difference counts.
        let begin = Instant::now();
        for number in 0..count {
            let tag = cipher.seal(&nonce(number), b"0123", &mut body).expect("sealed");
            let opened = cipher.open(&nonce(number), b"0123", black_box(&mut body), &tag);
            opened.expect("opened");
        }
        let both = begin.elapsed().as_nanos() as f64 / count as f64;
        opens.push(both - seals[seals.len() - 1]);
    }
    let median = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    (median(seals), median(opens))
}
