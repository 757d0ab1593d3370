// SPDX-License-Identifier: MPL-2.0

//! What the process does when it is interrupted or told to end from outside.

use std::io;

use tokio_util::sync::CancellationToken;

/// What an interrupt means.
#[derive(Clone, Debug)]
pub(super) enum OnInterrupt {
    /// It only ends work that reads: Ctrl-C reaches every process of the terminal, and the parent tells its plugins
    /// what to do.
    GoOn(CancellationToken),
    /// The user who started this process by hand ends it.
    End,
}

fn go_on(readers: &CancellationToken) {
    tracing::info!("interrupted; reads end, and everything else goes on until the parent says to stop");
    readers.cancel();
}

/// The signals that a plugin hears.
#[derive(Debug)]
pub(super) struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    hang_up: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// Handles the signals, whose default would end the process in the middle of its work.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits until someone outside wants the process to end.
    pub(super) async fn ended(&mut self, on_interrupt: OnInterrupt) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.hang_up.recv() => return,
                _ = self.interrupt.recv() => match &on_interrupt {
                    OnInterrupt::End => return,
                    OnInterrupt::GoOn(readers) => go_on(readers),
                },
            }
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    /// Handles Ctrl-C, whose default would end the process in the middle of its work.
    ///
    /// # Errors
    /// Never on this system.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Waits until someone outside wants the process to end.
    pub(super) async fn ended(&mut self, on_interrupt: OnInterrupt) {
        loop {
            if tokio::signal::ctrl_c().await.is_err() {
                return std::future::pending().await;
            }
            match &on_interrupt {
                OnInterrupt::End => return,
                OnInterrupt::GoOn(readers) => go_on(readers),
            }
        }
    }
}
