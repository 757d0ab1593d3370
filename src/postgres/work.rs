// SPDX-License-Identifier: MPL-2.0

//! Work that is sent to a server in one round trip.

use super::sql::{Scope, Statement};

/// A value bound to a parameter, with the type it is sent as.
pub(super) type Param<'a> = (&'a (dyn tokio_postgres::types::ToSql + Sync), tokio_postgres::types::Type);

/// A query with its parameters.
pub(super) type Query<'a> = (&'a str, &'a [Param<'a>]);

/// How long a statement waits for a lock that another session holds. The server keeps this limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LockWait {
    /// A few seconds: for a plan's reads, so that a locked table does not delay it.
    Brief,
    /// As long as the limits of the work allow.
    Patient,
}

impl LockWait {
    /// The statement that sets it for the rest of the session.
    pub(super) const fn statement(self) -> &'static str {
        match self {
            Self::Brief => "SET lock_timeout = '3s'",
            Self::Patient => "SET lock_timeout = 0",
        }
    }
}

/// One message to the server.
#[derive(Clone, Copy)]
pub(super) enum Request<'a> {
    /// A statement whose rows, if any, are ignored.
    Run(&'a str),
    /// Statements in one message, as [`script`] writes them. If one fails, the later ones do not run.
    Script(&'a str),
    /// A query whose rows belong to the answer.
    Read(Query<'a>),
    /// Sets the lock wait from here on. Nothing is sent if it is already set.
    Wait(LockWait),
}

/// Work for one round trip.
pub(super) struct Work<'a> {
    pub(super) requests: Vec<Request<'a>>,
    /// Whether something stays changed, whatever the result of the query.
    pub(super) changes: bool,
    /// Whether nothing of it stays if the server ends the session meanwhile.
    pub(super) all_or_nothing: bool,
}

impl<'a> Work<'a> {
    /// A statement, and then a query that is not part of it.
    pub(super) fn statement(statement: &'a Statement, query: Option<Query<'a>>) -> Self {
        let run = [Request::Wait(LockWait::Patient), Request::Run(statement.text())];
        Self {
            requests: run.into_iter().chain(read_back(query)).collect(),
            changes: true,
            all_or_nothing: statement.scope() == Scope::Transaction,
        }
    }

    /// A query with its parameters, or none.
    pub(super) fn query(query: Option<Query<'a>>, wait: LockWait) -> Self {
        Self::queries(query.as_slice(), wait)
    }

    /// Queries that each see the state at their turn.
    pub(super) fn queries(queries: &[Query<'a>], wait: LockWait) -> Self {
        let reads = queries.iter().copied().map(Request::Read);
        Self {
            requests: [Request::Wait(wait)].into_iter().chain(reads).collect(),
            changes: false,
            all_or_nothing: true,
        }
    }
}

/// A query after a change. It looks like any other read, so it does not wait for long either.
pub(super) fn read_back<'a>(query: Option<Query<'a>>) -> impl Iterator<Item = Request<'a>> {
    query.into_iter().flat_map(|query| [Request::Wait(LockWait::Brief), Request::Read(query)])
}

/// Statements as one text, for one message: with thousands of statements, this takes a fifth less time than a message
/// for each. A comment at the end of a statement cannot hide the next one.
pub(super) fn script(statements: &[Statement]) -> String {
    statements.iter().fold(String::new(), |text, statement| text + statement.text() + "\n;\n")
}

/// Splits statements into groups that share a transaction. A wait, or a statement that must be alone, is a group of its
/// own.
pub(super) fn groups(statements: &[Statement]) -> impl Iterator<Item = &[Statement]> {
    statements.chunk_by(|one, next| one.scope() == Scope::Transaction && next.scope() == Scope::Transaction)
}

/// The last group, which may be empty, and the groups before it.
pub(super) fn split_last(statements: &[Statement]) -> (&[Statement], impl Iterator<Item = &[Statement]>) {
    let last = groups(statements).last().unwrap_or_default();
    (last, groups(&statements[..statements.len() - last.len()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements(scopes: &str) -> Vec<Statement> {
        let statement = |scope| match scope {
            't' => Statement::new("t"),
            'a' => Statement::alone("a"),
            _ => Statement::wait_until("w"),
        };
        scopes.chars().map(statement).collect()
    }

    fn check_groups(scopes: &str, expected: &str) {
        let statements = statements(scopes);
        let text: Vec<String> = groups(&statements).map(|group| group.iter().map(Statement::text).collect()).collect();
        assert_eq!(text.join(" "), expected);
    }

    #[test]
    fn neighbours_share_a_transaction_and_loners_do_not() {
        check_groups("", "");
        check_groups("t", "t");
        check_groups("ttt", "ttt");
        check_groups("ttatt", "tt a tt");
        check_groups("aa", "a a");
        check_groups("twwat", "t w w a t");
    }

    #[test]
    fn the_last_group_is_split_off() {
        let check = |scopes: &str, last: usize, first: usize| {
            let statements = statements(scopes);
            let (found, before) = split_last(&statements);
            assert_eq!((found.len(), before.count()), (last, first), "{scopes}");
        };
        check("", 0, 0);
        check("tt", 2, 0);
        check("tta", 1, 1);
        check("attwtt", 2, 3);
    }

    #[test]
    fn statements_of_a_script_end_by_themselves() {
        let statements = ["SELECT 1 -- one", "SELECT 2"].map(Statement::new);
        assert_eq!(script(&statements), "SELECT 1 -- one\n;\nSELECT 2\n;\n");
        assert_eq!(script(&[]), "");
    }

    #[test]
    fn what_only_reads_waits_briefly_and_a_change_as_long_as_it_may() {
        let waits = |work: &Work<'_>| -> Vec<LockWait> {
            let wait = |request: &Request<'_>| if let Request::Wait(wait) = request { Some(*wait) } else { None };
            work.requests.iter().filter_map(wait).collect()
        };
        let statement = Statement::new("t");
        let query = Some(("SELECT 1", &[][..]));
        assert_eq!(waits(&Work::query(query, LockWait::Brief)), [LockWait::Brief]);
        assert_eq!(waits(&Work::statement(&statement, None)), [LockWait::Patient]);
        let both = Work::statement(&statement, query);
        assert_eq!(waits(&both), [LockWait::Patient, LockWait::Brief]);
    }
}
