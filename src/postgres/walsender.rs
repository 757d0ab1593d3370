// SPDX-License-Identifier: MPL-2.0

//! Connections in replication mode, for the commands that SQL does not have.
//!
//! The mode is one more parameter of a connection's first message, but the client library only sends parameters that it
//! knows. So the stream adds it on the way out. The library does everything else: TLS, authentication, channel binding.
//!
//! Source: "Streaming Replication Protocol" and "Message Formats" (StartupMessage) in the Postgres documentation.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config, Connection};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::connection::{attempts, may_try_otherwise};
use super::database::Database;
use super::error::{Cause, Result};
use super::limits::Limits;
use super::link::Link;

/// The parameter of the first message that requests replication mode with a database: its name and value.
const MODE: &[u8] = b"replication\0database\0";

/// How long a cancel request may take.
const CANCEL_GRACE: Duration = Duration::from_secs(5);

/// Runs one command of the replication protocol on a connection of its own, which ends with it.
///
/// # Errors
/// When the server cannot be reached in this mode, refuses the command, or a limit is reached: then the command is
/// cancelled.
pub(super) async fn run(db: &Database, doing: &str, command: &str, limits: &Limits) -> Result<()> {
    let limits = limits.or_within(db.config().statement_timeout);
    let work = async {
        let (client, encrypted) = connect(db.link(), db.name()).await?;
        tracing::debug!(server = db.config().address(), database = db.name(), command, "running");
        tokio::select! {
            result = client.batch_execute(command) => result.map_err(Cause::Statement),
            cause = limits.reached() => {
                cancel(db.link(), &client, encrypted).await;
                Err(cause)
            }
        }
    };
    db.changing(work).await.map_err(|cause| db.error(doing, cause))
}

/// A command that waits for another session does not notice that its client has gone.
async fn cancel(link: &Link, client: &Client, encrypted: bool) {
    let token = client.cancel_token();
    let request = async {
        match link.tls() {
            Ok(tls) if encrypted => token.cancel_query(tls).await,
            _ => token.cancel_query(Plain { asks: false }).await,
        }
    };
    if !matches!(timeout(CANCEL_GRACE, request).await, Ok(Ok(()))) {
        tracing::debug!("a cancel request failed");
    }
}

/// Connects within the server's `connect_timeout`, as its `sslmode` says. Also returns whether it is encrypted.
async fn connect(link: &Link, database: &str) -> std::result::Result<(Client, bool), Cause> {
    let config = link.client_config(database).await?;
    let work = async {
        let mut first = None;
        for &encrypted in attempts(link.config.sslmode) {
            match attempt(link, config.clone(), encrypted).await {
                Err(Cause::Connect(error)) if may_try_otherwise(&error) => {
                    first.get_or_insert(Cause::Connect(error));
                }
                result => {
                    let client = result.map_err(|cause| first.unwrap_or(cause))?;
                    return Ok((client, encrypted));
                }
            }
        }
        Err(first.unwrap_or_else(|| Cause::Unexpected("no address to connect to was found".to_owned())))
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
    // With direct TLS the library passes on the stream at once, without asking the server first.
    config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
    let connected = config.connect(Plain { asks: true }).await;
    connected.map(|(client, connection)| driven(client, connection)).map_err(Cause::Connect)
}

/// The client of a connection that runs in a task of its own.
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

/// Takes the place of a TLS connector and leaves the stream plain, so that the library opens it with all socket
/// options of the connection string. `asks` says whether to request replication mode.
#[derive(Clone, Copy)]
struct Plain {
    asks: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Plain {
    type Stream = Asking<S>;
    type TlsConnect = Self;
    type Error = io::Error;

    fn make_tls_connect(&mut self, _domain: &str) -> io::Result<Self> {
        Ok(*self)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Plain {
    type Stream = Asking<S>;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Asking<S>>>;

    fn connect(self, stream: S) -> Self::Future {
        std::future::ready(Ok(Asking { is_asked: !self.asks, ..Asking::new(stream, |_| ChannelBinding::none()) }))
    }
}

impl<S, T> TlsConnect<S> for Replicating<T>
where
    T: TlsConnect<S>,
    T::Future: Send + 'static,
    T::Stream: TlsStream + Unpin,
{
    type Stream = Asking<T::Stream>;
    type Error = T::Error;
    type Future = Pin<Box<dyn Future<Output = std::result::Result<Self::Stream, Self::Error>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        let connecting = self.0.connect(stream);
        Box::pin(async move { connecting.await.map(|stream| Asking::new(stream, TlsStream::channel_binding)) })
    }
}

/// A stream that adds [`MODE`] to the first message that is sent on it.
struct Asking<S> {
    inner: S,
    /// The channel binding of the stream.
    binding: fn(&S) -> ChannelBinding,
    is_asked: bool,
    /// The unsent rest of the first message.
    left: Vec<u8>,
}

impl<S: AsyncWrite + Unpin> Asking<S> {
    fn new(inner: S, binding: fn(&S) -> ChannelBinding) -> Self {
        Self { inner, binding, is_asked: false, left: Vec::new() }
    }

    /// Sends the rest of the first message.
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

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Asking<S> {
    fn channel_binding(&self) -> ChannelBinding {
        (self.binding)(&self.inner)
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

    /// The timer of the connection to this port of 127.0.0.1, as the kernel shows it: `02` is that of keepalives.
    fn timer(port: u16) -> Option<String> {
        let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
        let to = format!("0100007F:{port:04X}");
        let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        rows.find(|row| row.get(2) == Some(&to.as_str())).and_then(|row| Some(row.get(5)?.get(..2)?.to_owned()))
    }

    #[tokio::test]
    async fn a_plain_connection_asks_for_the_mode_and_heeds_what_is_said_of_sockets() {
        use crate::postgres::{Conninfo, ServerConfig, Transport};
        use tokio::io::AsyncReadExt;

        for (keepalives, expected) in [("keepalives_idle=77", "02"), ("keepalives=0", "00")] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let mut config = ServerConfig::new("127.0.0.1", "shop", "postgres");
            config.port = port;
            config.sslmode = crate::postgres::SslMode::Disable;
            config.transport = Transport::read(&Conninfo::parse(keepalives).unwrap()).unwrap();
            let link = Link::new(config, None);
            let attempt = async { connect(&link, "shop").await.map(drop) };
            let serve = async {
                let (mut server, _) = listener.accept().await.unwrap();
                let length = server.read_u32().await.unwrap();
                let mut message = vec![0; length as usize - 4];
                server.read_exact(&mut message).await.unwrap();
                let is_asked = message.windows(MODE.len()).any(|part| part == MODE);
                assert!(is_asked && message.starts_with(&[0, 3, 0, 0]), "{message:?}");
                // The sent data must be acknowledged first.
                while timer(port).as_deref() != Some(expected) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                ended = attempt => panic!("{ended:?}"),
                served = timeout(Duration::from_secs(10), serve) => served.expect(keepalives),
            }
        }
    }
}
