//! Who waits for the answer to a call, as its handler sees it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::state::State;
use super::wait::{Shared, Who};

/// Who waits for an answer: until when, and whether it still does. Clones are the same caller.
#[derive(Clone)]
pub struct Caller {
    pub(super) shared: Arc<Shared>,
    pub(super) link: u64,
    pub(super) call: u32,
    pub(super) deadline: Option<Instant>,
}

impl Caller {
    /// Until when the caller waits; `None`: for ever.
    pub const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How long the caller still waits; nothing once its time is over. `None`: for ever.
    pub fn time_left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Whether the caller has given the call up, has ended, or waits no more because the deadline
    /// has passed. Looks at the socket, but not past messages that nobody has received.
    pub fn is_cancelled(&self) -> bool {
        self.time_left() == Some(Duration::ZERO)
            || self.shared.with(|state| {
                state.is_cancelled(self.link, self.call) || {
                    state.pump();
                    state.is_cancelled(self.link, self.call)
                }
            })
    }

    /// Waits until [`Caller::is_cancelled`]: for `tokio::select!` beside the work.
    pub async fn cancelled(&self) {
        let who = Who::Answerer(self.link, self.call);
        let gone = |state: &mut State| state.is_cancelled(self.link, self.call).then_some(());
        // A system that refuses to watch the socket gives no reason to stop the work.
        let given_up = async {
            if self.shared.wait(who, gone).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        match self.deadline {
            Some(deadline) => {
                let _ = tokio::time::timeout_at(deadline.into(), given_up).await;
            }
            None => given_up.await,
        }
    }
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}
