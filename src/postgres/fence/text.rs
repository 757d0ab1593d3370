// SPDX-License-Identifier: MPL-2.0

//! The statements of a fence, and the queries that find it.

use super::{Fence, Gate};
use crate::postgres::advisory::{self, Kind};
use crate::postgres::sql::{Literal, QualifiedName, Statement};

/// The schema of the objects that the provider creates for itself.
pub(super) const SCHEMA: &str = "neonrepl";

/// What the comment of that schema says where it was made here.
const SCHEMA_COMMENT: &str =
    "Made by terraform-provider-neonrepl for the fences of cutovers, and dropped with the last of them.";

/// The beginning of the body of each function of the provider, and the rest of an open one's.
pub(super) const MARK: &str = "/* terraform-provider-neonrepl: fence */";
const OPEN: &str = "/* terraform-provider-neonrepl: fence */ BEGIN RETURN NULL; END";

/// The error that a refused writer gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The message.
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

/// The state of a function, read from its body.
pub(super) fn gate(source: &str) -> Gate {
    match source {
        OPEN => Gate::Open,
        source if source.starts_with(MARK) => Gate::Armed,
        _ => Gate::Foreign,
    }
}

/// Makes the schema where it is missing. `CREATE SCHEMA IF NOT EXISTS` needs the right to create one even where it is there.
pub(super) fn make_schema() -> Statement {
    alone_in_schema(&format!(
        "IF to_regnamespace({name}) IS NULL THEN CREATE SCHEMA {SCHEMA}; COMMENT ON SCHEMA {SCHEMA} IS {comment}; END IF;",
        name = Literal(SCHEMA),
        comment = Literal(SCHEMA_COMMENT)
    ))
}

/// Drops the schema where it was made here and nothing is left in it: no object, no default privileges, no grant.
pub(super) fn drop_schema() -> Statement {
    alone_in_schema(&format!(
        "IF EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname = {name} AND n.nspacl IS NULL \
           AND pg_catalog.obj_description(n.oid, 'pg_namespace') = {comment} AND pg_catalog.pg_has_role(n.nspowner, 'USAGE') \
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.refobjid = n.oid)) \
         THEN DROP SCHEMA {SCHEMA}; END IF;",
        name = Literal(SCHEMA),
        comment = Literal(SCHEMA_COMMENT)
    ))
}

/// A function that is made while its schema is dropped would stay without one, as the server locks no schema for it. So whoever
/// does either has our lock until the end of the transaction.
fn alone_in_schema(body: &str) -> Statement {
    let lock = advisory::waiting(Kind::Schema, SCHEMA);
    Statement::new(format!("DO {}", Literal(&format!("BEGIN PERFORM {lock}; {body} END"))))
}

pub(super) fn open(fence: &Fence) -> Statement {
    function(fence, OPEN)
}

/// 25006 is the error of a write to a read-only server: clients that look for the primary know it.
pub(super) fn armed(fence: &Fence, refusal: &Refusal) -> Statement {
    let hint = match refusal.hint.as_str() {
        "" => String::new(),
        hint => format!(", HINT = {}", Literal(hint)),
    };
    let message = Literal(&refusal.message);
    function(fence, &format!("{MARK} BEGIN RAISE EXCEPTION USING ERRCODE = '25006', MESSAGE = {message}{hint}; END"))
}

fn function(fence: &Fence, body: &str) -> Statement {
    Statement::new(format!(
        "CREATE OR REPLACE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS {}",
        fence.function,
        Literal(body)
    ))
}

pub(super) fn comment(fence: &Fence, text: &str) -> Statement {
    Statement::new(format!("COMMENT ON FUNCTION {}() IS {}", fence.function, Literal(text)))
}

/// Replaces a trigger that was disabled, or another one of that name.
pub(super) fn make_trigger(fence: &Fence, relation: &QualifiedName) -> Statement {
    Statement::new(format!(
        "CREATE OR REPLACE TRIGGER {} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {relation} FOR EACH STATEMENT \
         EXECUTE FUNCTION {}()",
        fence.trigger, fence.function
    ))
}

pub(super) fn drop_trigger(fence: &Fence, relation: &QualifiedName) -> Statement {
    Statement::new(format!("DROP TRIGGER IF EXISTS {} ON {relation}", fence.trigger))
}

pub(super) fn drop_function(fence: &Fence) -> Statement {
    Statement::new(format!("DROP FUNCTION IF EXISTS {}()", fence.function))
}

pub(super) fn drop_with_triggers(fence: &Fence) -> Statement {
    Statement::new(format!("DROP FUNCTION {}() CASCADE", fence.function))
}

/// Without `ONLY`, so that partitions that appear between the query and the lock are locked with their parent.
pub(super) fn lock<'a>(relations: impl Iterator<Item = &'a QualifiedName>) -> Statement {
    let all = relations.map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Statement::new(format!("LOCK TABLE {all} IN SHARE ROW EXCLUSIVE MODE"))
}

/// Whether the schema exists, whether the role may make the function, the role, and the function's body and comment.
pub(super) const FUNCTION: &str = "SELECT n.oid IS NOT NULL, CASE WHEN n.oid IS NULL \
       THEN has_database_privilege(current_database(), 'CREATE') ELSE has_schema_privilege(n.oid, 'CREATE') AND has_schema_privilege(n.oid, 'USAGE') END, \
       current_user::text, p.prosrc, obj_description(p.oid, 'pg_proc'), pg_has_role(p.proowner, 'USAGE') FROM (SELECT 1) one LEFT JOIN pg_namespace n ON n.nspname = $1 \
     LEFT JOIN pg_proc p ON p.pronamespace = n.oid AND p.proname = $2 AND p.pronargs = 0";

/// Read by a hold once it has the lock: its transaction's number, and the function as it was before.
pub(super) const LOCKED: &str = "SELECT pg_current_xact_id()::text, f.prosrc, f.comment FROM (SELECT 1) one LEFT JOIN \
     (SELECT p.prosrc, obj_description(p.oid, 'pg_proc') AS comment FROM pg_namespace n JOIN pg_proc p ON p.pronamespace = n.oid \
     WHERE n.nspname = $1 AND p.proname = $2 AND p.pronargs = 0) f ON true";

/// The relations with a trigger of this function.
pub(super) const COVERED: &str = "SELECT n.nspname::text, c.relname::text FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid \
     JOIN pg_namespace pn ON pn.oid = p.pronamespace JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE pn.nspname = $1 AND p.proname = $2 AND NOT g.tgisinternal ORDER BY 1, 2";

/// The provider's functions, with their comments.
pub(super) const DESCRIBED: &str = "SELECT p.proname::text, d.description FROM pg_namespace n \
     JOIN pg_proc p ON p.pronamespace = n.oid AND starts_with(p.prosrc, $2) \
     JOIN pg_description d ON d.objoid = p.oid AND d.classoid = 'pg_proc'::regclass WHERE n.nspname = $1 ORDER BY 1";

/// The relations. A trigger that covers one has exactly these events (INSERT 4, DELETE 8, UPDATE 16, TRUNCATE 32), fires
/// before (2) the statement and not for each row (1), in sessions that apply nothing (`O`).
pub(super) const RELATIONS: &str = "WITH RECURSIVE named AS (SELECT c.oid FROM unnest($1::text[], $2::text[]) AS w (s, t) \
       JOIN pg_namespace n ON n.nspname = w.s JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t), \
     up AS (SELECT oid FROM named UNION SELECT i.inhparent FROM up JOIN pg_inherits i ON i.inhrelid = up.oid), \
     down AS (SELECT oid FROM named UNION SELECT i.inhrelid FROM down JOIN pg_inherits i ON i.inhparent = down.oid) \
     SELECT n.nspname::text, c.relname::text, EXISTS (SELECT 1 FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid \
         JOIN pg_namespace pn ON pn.oid = p.pronamespace WHERE g.tgrelid = c.oid AND g.tgname = $3 AND g.tgenabled = 'O' \
         AND g.tgtype = 62 AND g.tgqual IS NULL AND cardinality(g.tgattr::int2[]) = 0 AND pn.nspname = $4 AND p.proname = $5), \
       pg_has_role(c.relowner, 'USAGE'), CASE WHEN current_setting('server_version_num')::int >= 170000 \
         THEN has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE, MAINTAIN') \
         ELSE has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE') END, pg_get_userbyid(c.relowner)::text \
     FROM (SELECT oid FROM up UNION SELECT oid FROM down) m JOIN pg_class c ON c.oid = m.oid AND c.relkind IN ('r', 'p') \
     JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY 1, 2";

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_function_is_known_by_its_body() {
        let fence = Fence::new("shop").unwrap();
        let refusal = Refusal { message: "it's over".to_owned(), hint: String::new() };
        expect![[r#"CREATE OR REPLACE FUNCTION "neonrepl"."fence_shop"() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS '/* terraform-provider-neonrepl: fence */ BEGIN RAISE EXCEPTION USING ERRCODE = ''25006'', MESSAGE = ''it''''s over''; END'"#]]
            .assert_eq(armed(&fence, &refusal).text());
        assert_eq!(gate(OPEN), Gate::Open);
        assert_eq!(gate(&format!("{MARK} BEGIN RAISE EXCEPTION '1'; END")), Gate::Armed);
        assert_eq!(gate("BEGIN RETURN NULL; END"), Gate::Foreign);
        assert!(Fence::new(&"x".repeat(60)).is_err());
    }
}
