// SPDX-License-Identifier: MPL-2.0

//! Replication objects of Postgres as values. The only place with SQL.
//!
//! A *value* ([`Publication`](publication::Publication), [`Subscription`](subscription::Subscription),
//! [`Slot`](slot::Slot)) describes an object, without the nulls and unknowns of a configuration. A *fetch* reads one:
//! `fetch` from a snapshot of all objects of its kind that concurrent readers share, `fetch_now` by a query of its own.
//! A *diff* is pure: from the current and the desired value, either of which may be absent, it makes the statements
//! between them; equal values give none. It refuses features that the server's version lacks, and names them.
//!
//! [`Database::run_within`] runs statements, and [`Database::session`] holds a session for work in several steps. Each
//! [`Server`] has one pool of connections for all its databases. Names are [`Ident`]s, which quote themselves, and
//! [`Statement`]s are only made here, so that no text from elsewhere becomes SQL. Secrets are [`Secret`]s and redacted
//! statements: no error, log line or `Debug` shows one.

mod advisory;
pub mod catalog;
pub mod comparison;
mod connection;
pub mod conninfo;
pub mod conninfo_parts;
mod database;
pub mod definition;
mod error;
pub mod fence;
mod filter;
mod given;
pub mod indexing;
pub mod keywords;
mod limits;
mod link;
mod login;
mod lost;
mod notice;
pub mod owned;
mod password;
mod pool;
pub mod publication;
pub mod read_only;
pub mod replica_identity;
pub mod sequence;
mod server;
pub mod server_facts;
mod session;
pub mod settings;
mod short_turns;
pub mod slot;
mod snapshot;
mod sql;
pub mod subscription;
mod tls;
mod transport;
pub mod version;
mod wait;
mod walsender;
mod work;

pub use conninfo::{Conninfo, Secret};
pub use database::{Database, HeldSession, Several};
pub use error::{Cause, Error, Place, Result, grant_of_replication};
pub use given::Given;
pub use limits::Limits;
pub use link::{ServerConfig, is_loopback};
pub use login::replicates;
pub use lost::look_again;
pub use notice::Notice;
pub use password::Passwords;
pub use server::Server;
pub use session::{Begin, Isolation, Rows, Savepoint, Session, Transaction};
pub use short_turns::in_short_turns;
pub use sql::{Ident, InvalidName, QualifiedName, Scope, Statement, quoted};
pub use tls::{SslMode, check_roots};
pub use tokio_postgres::error::SqlState;
pub use transport::{Transport, connect_timeout};
pub use version::{ServerVersion, Unsupported};
pub use wait::{Ended, Outage, Pauses, Waiter};
