//! Bytes both ways, until both ends have said all, or nothing was said for long.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until};

/// How long nothing may be said: longer than what people leave open for answers that take long.
const SILENCE: Duration = Duration::from_mins(15);
/// The same once one end has said all.
const HALF_SILENCE: Duration = Duration::from_mins(2);

/// Bytes that are on their way in one direction.
const PART: usize = 16 << 10;

/// When something was said last.
#[derive(Debug)]
pub(super) struct Clock {
    last: Cell<Instant>,
    is_half: Cell<bool>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { last: Cell::new(Instant::now()), is_half: Cell::new(false) }
    }
}

impl Clock {
    /// Something is said.
    pub fn tick(&self) {
        self.last.set(Instant::now());
    }

    /// One end has said all.
    fn half(&self) {
        self.tick();
        self.is_half.set(true);
    }

    /// Waits until nothing was said for too long.
    pub async fn silence(&self) {
        loop {
            let silence = if self.is_half.get() { HALF_SILENCE } else { SILENCE };
            let end = self.last.get() + silence;
            if Instant::now() >= end {
                return;
            }
            // The end of one side may have come meanwhile.
            sleep_until(end.min(Instant::now() + HALF_SILENCE)).await;
        }
    }
}

/// Copies both ways. What one end has said all of, the other one hears the end of.
pub(super) async fn both(
    one: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    other: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
) {
    let clock = Clock::default();
    let there = pump(one.0, other.1, &clock);
    let back = pump(other.0, one.1, &clock);
    tokio::select! {
        _ = async { tokio::try_join!(there, back) } => {}
        () = clock.silence() => {}
    }
}

/// Copies one way until its end, and passes that on.
pub(super) async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    clock: &Clock,
) -> io::Result<()> {
    let mut part = vec![0; PART];
    loop {
        let read = from.read(&mut part).await?;
        if read == 0 {
            clock.half();
            return to.shutdown().await;
        }
        // Who doesn't read holds up who writes.
        to.write_all(&part[..read]).await?;
        to.flush().await?;
        clock.tick();
    }
}
