// SPDX-License-Identifier: MPL-2.0

//! Opens a connection as `sslmode` says, and pins its settings.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Backend, Canceller, Closing, Connection, Seat, Shared, lock};
use crate::postgres::error::Cause;
use crate::postgres::link::Link;
use crate::postgres::notice::Notice;
use crate::postgres::tls::SslMode;
use crate::postgres::version::ServerVersion;
use crate::postgres::work::LockWait;

impl Connection {
    /// Connects, trying plain and encrypted connections in the order that `sslmode` asks for.
    pub(in crate::postgres) async fn open(link: &Link, database: &str, seat: &Seat) -> Result<Self, Cause> {
        let client = link.client_config(database).await?;
        let work = async {
            let attempts = attempts(link.config.sslmode);
            let mut first_error = None;
            for &encrypted in attempts {
                match Self::attempt(link, client.clone(), encrypted, seat).await {
                    Ok(connection) => return Ok(connection),
                    Err(Cause::Connect(error)) if attempts.len() > 1 && may_try_otherwise(&error) => {
                        first_error.get_or_insert(Cause::Connect(error));
                    }
                    Err(cause) => return Err(first_error.unwrap_or(cause)),
                }
            }
            Err(first_error.unwrap_or_else(|| Cause::Unexpected("no address to connect to was found".to_owned())))
        };
        match tokio::time::timeout(link.config.connect_timeout, work).await {
            Ok(result) => result,
            Err(_) => Err(Cause::ConnectTimeout(link.config.connect_timeout)),
        }
    }

    async fn attempt(link: &Link, mut pg: tokio_postgres::Config, encrypted: bool, seat: &Seat) -> Result<Self, Cause> {
        if encrypted {
            let tls = link.tls()?;
            // With `prefer`, the same connection continues in plain text if the server declines TLS.
            pg.ssl_mode(match link.config.sslmode {
                SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
                _ => tokio_postgres::config::SslMode::Require,
            });
            let (client, connection) = pg.connect(tls.clone()).await.map_err(Cause::Connect)?;
            Self::start(client, connection, Some(tls), seat).await
        } else {
            pg.ssl_mode(tokio_postgres::config::SslMode::Disable);
            let (client, connection) = pg.connect(NoTls).await.map_err(Cause::Connect)?;
            Self::start(client, connection, None, seat).await
        }
    }

    async fn start<S, T>(
        client: Client,
        connection: tokio_postgres::Connection<S, T>,
        tls: Option<MakeRustlsConnect>,
        seat: &Seat,
    ) -> Result<Self, Cause>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let lock_wait = LockWait::Brief;
        let shared = Shared { notices: Vec::new(), ended_idle: false, last_used: Instant::now(), lock_wait };
        let shared = Arc::new(Mutex::new(shared));
        let closing = Closing::default();
        let driver = drive(connection, Arc::clone(&shared));
        let (ends, seat) = (closing.clone(), Arc::clone(seat));
        tokio::spawn(async move {
            tokio::select! {
                () = driver => {}
                () = ends.due() => {}
            }
            drop(seat);
        });
        let canceller = Canceller { token: client.cancel_token(), tls };
        let (version, backend) = (ServerVersion::OLDEST, Backend::default());
        // Complete before the first await, so that it is closed however this ends.
        let mut opened = Self { client, shared, canceller, closing, version, backend };
        (opened.version, opened.backend) = pin_settings(&opened.client).await?;
        opened.take_notices();
        Ok(opened)
    }
}

/// Whether each attempt to connect is encrypted.
pub(in crate::postgres) fn attempts(mode: SslMode) -> &'static [bool] {
    match mode {
        SslMode::Disable => &[false],
        SslMode::Allow => &[false, true],
        SslMode::Prefer => &[true, false],
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[true],
    }
}

/// Whether encryption could be the reason for the failure: not if the host does not answer or the password is wrong.
pub(in crate::postgres) fn may_try_otherwise(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) => *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        None => !error.to_string().starts_with("error connecting to server"),
    }
}

/// Drives a connection until it ends, and keeps its notices.
async fn drive<S, T>(mut connection: tokio_postgres::Connection<S, T>, shared: Arc<Mutex<Shared>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match poll_fn(|cx| connection.poll_message(cx)).await {
            Some(Ok(AsyncMessage::Notice(notice))) => {
                lock(&shared).notices.push(Notice::from(&notice));
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                // A server error that answers no statement can only arrive at an idle connection.
                lock(&shared).ended_idle = error.code().is_some();
                return;
            }
            None => return,
        }
    }
}

/// Sets everything that the catalog's texts depend on and that a session needs, and reads the version. One round trip;
/// as statements, not start-up options, because poolers and proxies refuse those.
///
/// With these settings, every server prints texts in the same form. JIT is off, because queries are too short for
/// compiling to pay.
///
/// A database that is read-only by default, as a guide advises before a switch, must not prevent us from undoing our
/// changes; a standby still refuses to write. Commits are flushed before they are reported, even if the server does not
/// wait for that by default, because a slot cannot wait for a position that is not flushed yet.
/// `client_connection_check_interval` ends a statement whose client was killed; only servers on Linux are sure to
/// accept it. The client keeps time limits and cancels: the role's limits would hit a long initial wait, or a
/// transaction that is held. Locks are waited for briefly, as [`LockWait::Brief`] says. A server logs a statement that
/// it refuses, with the password of a subscription's connection string: a superuser's session can omit the statement
/// from the log, and the reason is still logged.
async fn pin_settings(client: &Client) -> Result<(ServerVersion, Backend), Cause> {
    let sql = "SELECT set_config('TimeZone', 'UTC', false), set_config('DateStyle', 'ISO, YMD', false), \
        set_config('search_path', 'pg_catalog', false), set_config('standard_conforming_strings', 'on', false), \
        set_config('IntervalStyle', 'postgres', false), set_config('extra_float_digits', '1', false), \
        set_config('bytea_output', 'hex', false), set_config('quote_all_identifiers', 'off', false), \
        set_config('jit', 'off', false), \
        CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'local', false) END, \
        set_config('default_transaction_read_only', 'off', false), \
        set_config('statement_timeout', '0', false), set_config('lock_timeout', '3s', false), \
        set_config('idle_in_transaction_session_timeout', '0', false), \
        CASE WHEN current_setting('server_version_num')::int >= 140000 THEN set_config('idle_session_timeout', '0', false) END, \
        CASE WHEN current_setting('server_version_num')::int >= 170000 THEN set_config('transaction_timeout', '0', false) END, \
        CASE WHEN current_setting('server_version_num')::int >= 140000 AND version() LIKE '%linux%' \
             THEN set_config('client_connection_check_interval', '2s', false) END, \
        current_setting('server_version_num')::int AS version, pg_backend_pid() AS pid, \
        (SELECT extract(epoch FROM backend_start)::text FROM pg_stat_get_activity(pg_backend_pid())) AS started, \
        (SELECT set_config('log_min_error_statement', 'panic', false) FROM pg_roles WHERE rolname = current_user AND rolsuper)";
    let row = client.query_typed_one(sql, &[]).await.map_err(Cause::Connect)?;
    let num: i32 = row.try_get("version").map_err(Cause::Connect)?;
    let version = ServerVersion::from_num(u32::try_from(num).unwrap_or(0));
    if version < ServerVersion::OLDEST {
        return Err(Cause::TooOld(version));
    }
    let started: Option<String> = row.try_get("started").map_err(Cause::Connect)?;
    let backend = Backend { pid: row.try_get("pid").map_err(Cause::Connect)?, started: started.unwrap_or_default() };
    Ok((version, backend))
}
