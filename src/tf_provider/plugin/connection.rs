// SPDX-License-Identifier: MPL-2.0

//! Connections from the parent: accepted, encrypted, counted.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::Lifecycle;
use super::listener::{Io, Listener};

/// How long a client's TLS handshake may take.
const TLS_DEADLINE: Duration = Duration::from_secs(10);
/// The pause after the system refuses to accept a connection, for example because of too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a process waits for its parent's first connection.
const FIRST_CONNECTION: Duration = Duration::from_secs(60);
/// How long a process waits for its parent to come back.
const NEXT_CONNECTION: Duration = Duration::from_secs(5);

/// Accepts connections until the process ends; the listener is closed before that. Each handshake runs in a task of its
/// own, so that a slow client delays no other.
pub(super) fn incoming(
    listener: Listener,
    tls: Option<TlsAcceptor>,
    count: &OpenConnections,
    lifecycle: &Lifecycle,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, connections) = mpsc::channel(1);
    let count = count.clone();
    let end = lifecycle.shutdown_token();
    lifecycle.spawn(end.run_until_cancelled_owned(async move {
        loop {
            match listener.accept().await {
                Ok(io) => {
                    let (ready, tls, count) = (ready.clone(), tls.clone(), count.clone());
                    tokio::spawn(async move {
                        if let Some(io) = encrypt(io, tls).await {
                            // Fails only if the server is already gone.
                            let _ = ready.send(Ok(count.track(io))).await;
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }));
    ReceiverStream::new(connections)
}

/// Runs the TLS handshake, if TLS is used. A client that fails it is dropped.
async fn encrypt(io: Box<dyn Io>, tls: Option<TlsAcceptor>) -> Option<Box<dyn Io>> {
    let Some(tls) = tls else {
        return Some(io);
    };
    match timeout(TLS_DEADLINE, tls.accept(io)).await {
        Ok(Ok(io)) => Some(Box::new(io)),
        Ok(Err(error)) => {
            tracing::warn!(%error, "refusing a connection");
            None
        }
        Err(_) => {
            tracing::warn!("dropping a connection that did not finish its TLS handshake");
            None
        }
    }
}

/// The connections of this process.
#[derive(Clone, Debug)]
pub(super) struct OpenConnections(watch::Sender<Count>);

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    open: usize,
    /// With closed ones: a connection that came and went between two reads counts.
    total: u64,
}

impl OpenConnections {
    /// No connections yet.
    pub(super) fn new() -> Self {
        Self(watch::Sender::default())
    }

    fn track(&self, io: Box<dyn Io>) -> Connection {
        self.0.send_modify(|count| {
            count.open += 1;
            count.total += 1;
        });
        Connection { io, count: self.clone() }
    }

    /// Waits until the parent is gone: it hung up and did not come back, or never came.
    pub(super) async fn abandoned(&self) {
        let (mut seen, mut patience) = (0, FIRST_CONNECTION);
        while timeout(patience, self.opened_after(seen)).await.is_ok() {
            seen = self.all_closed().await;
            patience = NEXT_CONNECTION;
        }
    }

    /// Waits for a connection beyond the first `seen`.
    pub(super) async fn opened_after(&self, seen: u64) {
        self.reached(|count| count.total > seen).await;
    }

    /// Waits until no connection is open. Returns how many there have been.
    pub(super) async fn all_closed(&self) -> u64 {
        self.reached(|count| count.open == 0).await.total
    }

    async fn reached(&self, condition: impl Fn(&Count) -> bool) -> Count {
        let mut counts = self.0.subscribe();
        // Cannot fail: this value is a sender itself.
        counts.wait_for(condition).await.map_or_else(|_| Count::default(), |count| *count)
    }
}

/// One connection, counted while it is open.
pub(super) struct Connection {
    io: Box<dyn Io>,
    count: OpenConnections,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.count.0.send_modify(|count| count.open -= 1);
    }
}

impl Connected for Connection {
    type ConnectInfo = ();
    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn open(count: &OpenConnections) -> Connection {
        count.track(Box::new(tokio::io::empty()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_parent_that_never_came_is_gone_after_a_minute() {
        let start = Instant::now();
        OpenConnections::new().abandoned().await;
        assert_eq!(start.elapsed(), FIRST_CONNECTION);
    }

    #[tokio::test(start_paused = true)]
    async fn a_parent_that_stays_is_not_gone() {
        let count = OpenConnections::new();
        let _open = open(&count);
        let day = Duration::from_secs(86_400);
        assert!(timeout(day, count.abandoned()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_parent_that_hung_up_is_gone_after_some_seconds() {
        let count = OpenConnections::new();
        let connections = (open(&count), open(&count));
        let watch = tokio::spawn({
            let count = count.clone();
            async move { count.abandoned().await }
        });
        tokio::task::yield_now().await;
        drop(connections.0);
        tokio::time::advance(NEXT_CONNECTION * 2).await;
        assert!(!watch.is_finished());

        drop(connections.1);
        let start = Instant::now();
        watch.await.unwrap();
        assert_eq!(start.elapsed(), NEXT_CONNECTION);
    }

    #[tokio::test(start_paused = true)]
    async fn a_parent_that_came_and_went_unseen_is_gone_after_some_seconds() {
        let count = OpenConnections::new();
        drop(open(&count));
        let start = Instant::now();
        count.abandoned().await;
        assert_eq!(start.elapsed(), NEXT_CONNECTION);
    }

    #[tokio::test(start_paused = true)]
    async fn a_parent_that_came_back_is_not_gone() {
        let count = OpenConnections::new();
        let first = open(&count);
        let watch = tokio::spawn({
            let count = count.clone();
            async move { count.abandoned().await }
        });
        tokio::task::yield_now().await;
        drop(first);
        tokio::time::advance(NEXT_CONNECTION / 2).await;
        let _second = open(&count);
        tokio::time::advance(NEXT_CONNECTION * 10).await;
        assert!(!watch.is_finished());
    }
}
