//! Settings that a reload has found to be others, for a layer that takes them without a restart.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::Layer;
use super::slice::MAX_SETTINGS;
use crate::wire::control::FromLayer;

/// What the layer's code has still to take.
#[derive(Debug, Default)]
pub(crate) struct Reloaded {
    fresh: Mutex<Option<Vec<u8>>>,
    notify: Notify,
}

impl Reloaded {
    /// Keeps settings that have come, in place of those that nobody took.
    pub(super) fn put(&self, memory: &OwnedFd, bytes: u32) -> io::Result<()> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).min(MAX_SETTINGS);
        let mut fresh = vec![0; bytes];
        let mut at = 0;
        while at < bytes {
            match rustix::io::pread(memory, &mut fresh[at..], at as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => at += more,
            }
        }
        *self.fresh.lock().unwrap_or_else(PoisonError::into_inner) = Some(fresh);
        self.notify.notify_one();
        Ok(())
    }
}

impl Layer {
    /// Waits until a reload has found that the program's settings
    /// ([`Daemon::settings`](crate::Daemon::settings)) are others, and gives them. For a layer whose
    /// policy says `reload = "told"`; any other begins anew, and waits here for ever. Dropping the
    /// future loses nothing.
    ///
    /// With this the layer has taken them, as far as the supervisor knows: a reload waits for that, and
    /// a layer that takes longer than its [`grace`](Self::grace) begins anew. Ask again at once.
    ///
    /// ```no_run
    /// # async fn serve(settings: &[u8]) {}
    /// # async fn example(layer: cofferdam::Layer) -> std::io::Result<()> {
    /// let mut settings = layer.settings().to_vec();
    /// loop {
    ///     tokio::select! {
    ///         () = layer.stopping() => return Ok(()),
    ///         fresh = layer.reloaded() => settings = fresh?,
    ///         () = serve(&settings) => {}
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// The supervisor is gone.
    pub async fn reloaded(&self) -> io::Result<Vec<u8>> {
        self.0.ensure_attendant();
        loop {
            if let Some(fresh) = self.take_reloaded()? {
                return Ok(fresh);
            }
            self.0.reloaded.notify.notified().await;
        }
    }

    /// The same without waiting: `None` if there are none. For a blocking layer, between two things
    /// that it does.
    ///
    /// # Errors
    /// The supervisor is gone.
    pub fn try_reloaded(&self) -> io::Result<Option<Vec<u8>>> {
        self.attend()?;
        self.take_reloaded()
    }

    fn take_reloaded(&self) -> io::Result<Option<Vec<u8>>> {
        let fresh = self.0.reloaded.fresh.lock().unwrap_or_else(PoisonError::into_inner).take();
        if fresh.is_some() {
            self.0.inbox.say(&FromLayer::Reloaded)?;
        }
        Ok(fresh)
    }
}
