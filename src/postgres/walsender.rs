//! Connections in replication mode, for the commands that SQL does not have.
//!
//! The mode is one more parameter of a connection's first message, and the client library sends only those that it
//! knows. So the stream adds it on the way out; all else is the library's: TLS, authentication, channel binding.
//!
//! Source: "Streaming Replication Protocol" and "Message Formats" (StartupMessage) in the Postgres documentation.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config, Connection, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::connection::{attempts, may_try_otherwise};
use super::database::Database;
use super::error::{Cause, Result};
use super::limits::Limits;
use super::link::Link;

/// What makes a connection one that replicates and knows its database: a name and a value of the first message.
const MODE: &[u8] = b"replication\0database\0";

/// How long the server may take for a request to cancel.
const CANCEL_GRACE: Duration = Duration::from_secs(5);

/// Runs one command of the replication protocol on a connection of its own, which ends with it.
///
/// # Errors
/// When the server cannot be reached in this mode, refuses the command, or a limit is reached: it is then told to cancel.
pub(super) async fn run(db: &Database, doing: &str, command: &str, limits: &Limits) -> Result<()> {
    let limits = limits.or_within(db.config().statement_timeout);
    let work = async {
        let client = connect(db.link(), db.name()).await?;
        tracing::debug!(server = db.config().address(), database = db.name(), command, "running");
        tokio::select! {
            result = client.batch_execute(command) => result.map_err(Cause::Statement),
            cause = limits.reached() => {
                cancel(db.link(), &client).await;
                Err(cause)
            }
        }
    };
    db.changing(work).await.map_err(|cause| db.error(doing, cause))
}

/// A command that waits for somebody else does not notice that its client has gone.
async fn cancel(link: &Link, client: &Client) {
    let token = client.cancel_token();
    let request = async {
        match link.tls() {
            Ok(tls) if link.config.sslmode != super::SslMode::Disable => token.cancel_query(tls).await,
            _ => token.cancel_query(NoTls).await,
        }
    };
    if !matches!(timeout(CANCEL_GRACE, request).await, Ok(Ok(()))) {
        tracing::debug!("a cancel request failed");
    }
}

/// Connects within the server's `connect_timeout`, as its `sslmode` says.
async fn connect(link: &Link, database: &str) -> std::result::Result<Client, Cause> {
    let config = link.client_config(database).await?;
    let work = async {
        let mut first = None;
        for &encrypted in attempts(link.config.sslmode) {
            match attempt(link, config.clone(), encrypted).await {
                Err(Cause::Connect(error)) if may_try_otherwise(&error) => {
                    first.get_or_insert(Cause::Connect(error));
                }
                result => return result.map_err(|cause| first.unwrap_or(cause)),
            }
        }
        Err(first.unwrap_or_else(|| Cause::Unexpected("no way to connect was tried".to_owned())))
    };
    match timeout(link.config.connect_timeout, work).await {
        Ok(result) => result,
        Err(_) => Err(Cause::ConnectTimeout(link.config.connect_timeout)),
    }
}

async fn attempt(link: &Link, mut config: Config, encrypted: bool) -> std::result::Result<Client, Cause> {
    if encrypted {
        config.ssl_mode(SslMode::Require);
        let connected = config.connect(Replicating(link.tls()?)).await;
        return connected.map(|(client, connection)| driven(client, connection)).map_err(Cause::Connect);
    }
    config.ssl_mode(SslMode::Disable);
    let unreachable = |error| Cause::Unexpected(format!("error connecting to server: {error}"));
    let stream = match config.get_hostaddrs().first() {
        Some(address) => TcpStream::connect((*address, link.config.port)).await,
        None => TcpStream::connect((link.config.host.as_str(), link.config.port)).await,
    };
    let stream = stream.map_err(unreachable)?;
    let connected = config.connect_raw(Asking::new(stream), NoTls).await;
    connected.map(|(client, connection)| driven(client, connection)).map_err(Cause::Connect)
}

/// The client of a connection that a task of its own drives.
fn driven<S, T>(client: Client, connection: Connection<S, T>) -> Client
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a replication connection ended");
        }
    });
    client
}

/// A TLS connector whose streams ask for replication mode.
struct Replicating<T>(T);

impl<S> MakeTlsConnect<S> for Replicating<MakeRustlsConnect>
where
    MakeRustlsConnect: MakeTlsConnect<S>,
    Replicating<<MakeRustlsConnect as MakeTlsConnect<S>>::TlsConnect>: TlsConnect<S>,
{
    type Stream = <Self::TlsConnect as TlsConnect<S>>::Stream;
    type TlsConnect = Replicating<<MakeRustlsConnect as MakeTlsConnect<S>>::TlsConnect>;
    type Error = <MakeRustlsConnect as MakeTlsConnect<S>>::Error;

    fn make_tls_connect(&mut self, domain: &str) -> std::result::Result<Self::TlsConnect, Self::Error> {
        self.0.make_tls_connect(domain).map(Replicating)
    }
}

impl<S, T> TlsConnect<S> for Replicating<T>
where
    T: TlsConnect<S>,
    T::Future: Send + 'static,
    T::Stream: Unpin,
{
    type Stream = Asking<T::Stream>;
    type Error = T::Error;
    type Future = Pin<Box<dyn Future<Output = std::result::Result<Self::Stream, Self::Error>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        let connecting = self.0.connect(stream);
        Box::pin(async move { connecting.await.map(Asking::new) })
    }
}

/// A stream that adds [`MODE`] to the first message that goes out on it.
struct Asking<S> {
    inner: S,
    is_asked: bool,
    /// What of the first message is still to be sent.
    left: Vec<u8>,
}

impl<S: AsyncWrite + Unpin> Asking<S> {
    fn new(inner: S) -> Self {
        Self { inner, is_asked: false, left: Vec::new() }
    }

    /// Sends what is left of the first message.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.left.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, &self.left))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => drop(self.left.drain(..sent)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The first message with the parameter: its length, the protocol, names and values, and a zero at the end.
fn with_mode(message: &[u8]) -> io::Result<Vec<u8>> {
    let unexpected = || io::Error::new(io::ErrorKind::InvalidData, "the first message is not whole");
    let (length, body) = message.split_first_chunk().ok_or_else(unexpected)?;
    let body = body.strip_suffix(&[0]).filter(|_| usize::try_from(u32::from_be_bytes(*length)) == Ok(message.len()));
    let body = body.ok_or_else(unexpected)?;
    let longer = u32::try_from(message.len() + MODE.len()).map_err(|_| unexpected())?;
    Ok([&longer.to_be_bytes(), body, MODE, &[0]].concat())
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Asking<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_asked {
            ready!(self.poll_left(cx))?;
            return Pin::new(&mut self.inner).poll_write(cx, buf);
        }
        self.left = with_mode(buf)?;
        self.is_asked = true;
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_left(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_left(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Asking<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: TlsStream + Unpin> TlsStream for Asking<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.inner.channel_binding()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_is_one_more_parameter_of_the_first_message() {
        let message = |parameters: &[u8]| {
            let length = u32::try_from(parameters.len() + 8).unwrap();
            [&length.to_be_bytes(), &[0, 3, 0, 0][..], parameters].concat()
        };
        assert_eq!(with_mode(&message(b"user\0u\0\0")).unwrap(), message(b"user\0u\0replication\0database\0\0"));
        for wrong in [&b""[..], b"abc", &message(b"user\0u\0\0")[..9]] {
            assert!(with_mode(wrong).is_err(), "{wrong:?}");
        }
    }
}
