// SPDX-License-Identifier: MPL-2.0

//! The texts of causes that stop the rows of one table.

use crate::postgres::catalog::add_label;
use crate::postgres::publication::Operation;
use crate::postgres::{Ident, QualifiedName};
use crate::replication::names;
use crate::replication::status::{Cause, Drift};

/// A flaw of a replicated table. The variants are in order of likelihood, everything else being equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::replication::status) enum Flaw {
    /// It does not exist on the subscriber; these columns with their types would create it.
    NoTable {
        /// The text between the parentheses of `CREATE TABLE`.
        columns: String,
    },
    /// It does not exist on the subscriber, nor, under this name, on the publisher any more.
    FormerName {
        /// The columns that it had.
        columns: Vec<Ident>,
    },
    /// It is not a table on the subscriber.
    NotATable,
    /// Publications send different columns of it.
    Clash(Vec<Ident>),
    /// A sent column has another name on the subscriber.
    Renamed {
        /// The subscriber's name.
        from: Ident,
        /// The publisher's.
        to: Ident,
    },
    /// A sent column is missing on the subscriber.
    MissingColumn {
        /// Its name.
        column: Ident,
        /// Its type on the publisher.
        ty: String,
    },
    /// A sent column is generated on the subscriber.
    Generated(Ident),
    /// A column of the subscriber is NOT NULL, but gets no value.
    Required(Ident),
    /// A column has another type there, and rows are sent in binary form.
    BinaryType {
        /// Its name.
        column: Ident,
        /// Its type on the publisher.
        publisher: String,
        /// Its type on the subscriber.
        subscriber: String,
    },
    /// The login role may not read it.
    NoSelect(Ident),
    /// The owner of the subscription may not act as the owner of the table.
    NoSetRole {
        /// The owner of the subscription.
        subscription: Ident,
        /// The owner of the table.
        table: Ident,
    },
    /// The role that applies changes lacks privileges.
    NoWrite {
        /// That role.
        role: Ident,
        /// The missing privileges.
        privileges: Vec<String>,
    },
    /// Row security restricts the role that applies changes.
    RowSecurity,
    /// It had rows before it was copied.
    HeldRows,
    /// Updates and deletes find no row, because there is no key on the subscriber.
    NoIdentity,
    /// The key of the subscriber has columns that the publisher does not send with updates and deletes.
    OtherIdentity(Vec<Ident>),
    /// An enum of the subscriber lacks labels.
    MissingLabels {
        /// The type.
        ty: String,
        /// The labels.
        labels: Vec<String>,
    },
    /// A column of the subscriber does not accept every value of the publisher's type.
    Narrower {
        /// Its name.
        column: Ident,
        /// Its type on the publisher.
        publisher: String,
        /// Its type on the subscriber.
        subscriber: String,
    },
    /// Only the subscriber has a unique index.
    ExtraUnique {
        /// Its name.
        index: Ident,
        /// Its columns.
        columns: String,
    },
    /// Only the subscriber has a check.
    ExtraCheck(Ident),
    /// A trigger of the subscriber fires for replicated rows.
    Trigger(Ident),
    /// A called function depends on the search path.
    Function {
        /// The function.
        function: QualifiedName,
        /// Its arguments.
        arguments: String,
        /// What calls it.
        by: String,
    },
    /// A foreign key of a table that is not truncated together with it, so that the subscriber refuses TRUNCATE.
    Referenced {
        /// The table that has it.
        by: QualifiedName,
        /// Its name.
        constraint: Ident,
        /// Whether only the subscriber has it.
        is_extra: bool,
    },
}

/// How certain it is that a flaw is the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::replication::status) enum Weight {
    /// It stops everything that is tried.
    Certain,
    /// It stops some values or rows, and no other reason is known.
    Likely,
    /// It may stop it.
    Possible,
}

/// The work that is tried on a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::replication::status) enum Trying<'a> {
    /// Its copy.
    Copy,
    /// Changes, of these kinds if known.
    Changes(Option<&'a std::collections::BTreeSet<Operation>>),
}

impl Flaw {
    /// How certain it is that it stops the work; none if it cannot.
    pub(in crate::replication::status) fn weight(&self, trying: Trying<'_>) -> Option<Weight> {
        let writes = match trying {
            Trying::Copy => return self.weight_of_copy(),
            Trying::Changes(operations) => operations,
        };
        let some = |wanted: &[Operation]| writes.is_none_or(|done| wanted.iter().any(|one| done.contains(one)));
        let sure = |weight: Weight| if writes.is_some() { Weight::Certain } else { weight };
        let changes = [Operation::Update, Operation::Delete];
        let values = [Operation::Insert, Operation::Update];
        match self {
            Self::NoTable { .. }
            | Self::FormerName { .. }
            | Self::NotATable
            | Self::Clash(_)
            | Self::Renamed { .. }
            | Self::MissingColumn { .. } => Some(Weight::Certain),
            Self::Generated(_) | Self::BinaryType { .. } | Self::NoSetRole { .. } | Self::NoWrite { .. } => {
                Some(Weight::Certain)
            }
            Self::RowSecurity => Some(Weight::Certain),
            Self::Required(_) => some(&[Operation::Insert]).then_some(Weight::Certain),
            Self::NoIdentity | Self::OtherIdentity(_) => some(&changes).then_some(sure(Weight::Likely)),
            Self::MissingLabels { .. } | Self::Narrower { .. } | Self::ExtraUnique { .. } | Self::ExtraCheck(_) => {
                some(&values).then_some(Weight::Likely)
            }
            Self::Trigger(_) | Self::Function { .. } => Some(Weight::Likely),
            Self::Referenced { .. } => some(&[Operation::Truncate]).then_some(sure(Weight::Possible)),
            Self::NoSelect(_) | Self::HeldRows => None,
        }
    }

    fn weight_of_copy(&self) -> Option<Weight> {
        match self {
            Self::NoIdentity | Self::OtherIdentity(_) | Self::Referenced { .. } => None,
            Self::HeldRows
            | Self::MissingLabels { .. }
            | Self::Narrower { .. }
            | Self::ExtraUnique { .. }
            | Self::ExtraCheck(_)
            | Self::Trigger(_)
            | Self::Function { .. } => Some(Weight::Likely),
            _ => Some(Weight::Certain),
        }
    }

    /// The flaw as a difference between both tables; none if it is not a difference.
    pub(in crate::replication::status) fn drift(&self, table: &QualifiedName) -> Option<Drift> {
        let is_drift = !matches!(
            self,
            Self::NoSelect(_)
                | Self::NoSetRole { .. }
                | Self::NoWrite { .. }
                | Self::RowSecurity
                | Self::HeldRows
                | Self::Clash(_)
                | Self::Function { .. }
                | Self::Trigger(_)
                | Self::Referenced { is_extra: false, .. }
        );
        let Cause { message, remedy, .. } = self.cause(table);
        is_drift.then(|| Drift { table: table.clone(), message, remedy })
    }

    /// The flaw as a cause.
    pub(in crate::replication::status) fn cause(&self, table: &QualifiedName) -> Cause {
        let (kind, message, evidence, remedy) = self.words(table);
        Cause { kind, message, evidence, remedy }
    }

    #[allow(clippy::too_many_lines, reason = "one text beside the other")]
    fn words(&self, table: &QualifiedName) -> (&'static str, String, String, String) {
        let name = table.to_text();
        match self {
            Self::NoTable { columns } => (
                "missing_table",
                format!("Table {name} is published, and is missing on the subscriber."),
                "One row of it stops the replication of all tables of the subscription.".to_owned(),
                format!(
                    "On the subscriber, as the role that is to own it: CREATE TABLE {table} ({columns}); The worker \
                     then goes on by itself. Or drop the table from the publication."
                ),
            ),
            Self::FormerName { columns } => (
                "former_table",
                format!("Changes of table {name} are to come, which is missing on the subscriber, and on the publisher by now."),
                "It was dropped or got another name after they were written, as in a migration that puts a new table in the place of \
                 an old one. Each change goes by the name of its time."
                    .to_owned(),
                format!(
                    "Where it was renamed and the subscriber has it, on the subscriber: ALTER TABLE … RENAME; Otherwise an empty table \
                     will do, since the rows of one that the subscription has not taken up are passed over: CREATE TABLE {table} ({}); \
                     The worker goes on by itself, and the table can be dropped once it has caught up.",
                    columns.iter().map(|column| format!("{column} text")).collect::<Vec<_>>().join(", ")
                ),
            ),
            Self::NotATable => (
                "not_a_table",
                format!("{name} is not a table on the subscriber, but a view or a foreign table."),
                "Rows can only be replicated into tables.".to_owned(),
                "On the subscriber, as its owner: rename it, and create the table as on the publisher.".to_owned(),
            ),
            Self::Clash(publications) => {
                let publications = names::list(publications.iter().map(ToString::to_string));
                (
                    "different_columns",
                    format!("Publications {publications} send different columns of table {name}."),
                    "One subscription can take only one list of columns of a table.".to_owned(),
                    "On the publisher, give all of them the same column list and publish_generated_columns.".to_owned(),
                )
            }
            Self::Renamed { from, to } => (
                "renamed_column",
                format!(
                    "A column of table {name} was renamed: the publisher sends {}, and the subscriber has {}.",
                    to.as_str(),
                    from.as_str()
                ),
                "Both have the same type, and each is missing on the other side.".to_owned(),
                format!(
                    "On the subscriber, as the owner of the table: ALTER TABLE {table} RENAME COLUMN {from} TO {to};"
                ),
            ),
            Self::MissingColumn { column, ty } => (
                "missing_column",
                format!("Table {name} lacks column {} on the subscriber.", column.as_str()),
                format!("The publisher sends it as {ty}, also with rows that do not set it."),
                format!(
                    "On the subscriber, as the owner of the table: ALTER TABLE {table} ADD COLUMN {column} {ty}; \
                     with the same default as on the publisher. The worker then goes on by itself, and nothing is \
                     lost."
                ),
            ),
            Self::Generated(column) => (
                "generated_column",
                format!(
                    "Column {} of table {name} is generated on the subscriber, and the publisher sends it.",
                    column.as_str()
                ),
                "A generated column does not accept a value.".to_owned(),
                format!(
                    "On the subscriber, as the owner of the table: ALTER TABLE {table} ALTER COLUMN {column} DROP EXPRESSION; Or \
                     publish a column list without it."
                ),
            ),
            Self::Required(column) => (
                "required_column",
                format!(
                    "Column {} of table {name} is NOT NULL on the subscriber, and the publisher sends no value \
                     for it.",
                    column.as_str()
                ),
                "It has no default, and is not published.".to_owned(),
                format!(
                    "On the subscriber, as the owner of the table: ALTER TABLE {table} ALTER COLUMN {column} DROP NOT NULL;"
                ),
            ),
            Self::BinaryType { column, publisher, subscriber } => (
                "binary_type",
                format!(
                    "Column {} of table {name} has another type on the subscriber, and binary = true.",
                    column.as_str()
                ),
                format!("It is {publisher} on the publisher and {subscriber} on the subscriber."),
                format!(
                    "On the subscriber, as the owner of the table: ALTER TABLE {table} ALTER COLUMN {column} TYPE {publisher}; Or set \
                     binary = false."
                ),
            ),
            Self::NoSelect(role) => (
                "no_select",
                format!("Role {} may not read table {name} on the publisher.", role.as_str()),
                "The subscription logs in as this role to copy the table.".to_owned(),
                format!(
                    "On the publisher, as the owner of the table: GRANT USAGE ON SCHEMA {} TO {role}; GRANT SELECT ON {table} TO {role};",
                    table.schema
                ),
            ),
            Self::NoSetRole { subscription, table: owner } => (
                "no_set_role",
                format!(
                    "Role {}, which owns the subscription, may not act as {}, which owns table {name} on the subscriber.",
                    subscription.as_str(),
                    owner.as_str()
                ),
                "Since Postgres 16 changes are applied as the owner of the table.".to_owned(),
                format!(
                    "On the subscriber, as a role that may grant it: GRANT {owner} TO {subscription}; Or, as a superuser: ALTER TABLE \
                     {table} OWNER TO {subscription};"
                ),
            ),
            Self::NoWrite { role, privileges } => {
                let privileges = privileges.join(", ");
                (
                    "no_write",
                    format!("Role {} may not write to table {name} on the subscriber.", role.as_str()),
                    format!("It applies the changes, and lacks {privileges}."),
                    format!(
                        "On the subscriber, as the owner of the table: GRANT USAGE ON SCHEMA {} TO {role}; GRANT {privileges} ON {table} TO {role};",
                        table.schema
                    ),
                )
            }
            Self::RowSecurity => (
                "row_security",
                format!(
                    "Row security of table {name} on the subscriber applies to the role that writes replicated rows."
                ),
                "Postgres refuses to replicate into such a table.".to_owned(),
                format!(
                    "On the subscriber, as the owner of the table: ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY; ALTER TABLE {table} \
                     DISABLE ROW LEVEL SECURITY; until the cutover."
                ),
            ),
            Self::HeldRows => (
                "rows_before",
                format!("Table {name} already held rows on the subscriber before it was copied."),
                "It holds rows now, and its copy has never finished. A row that is copied again violates its \
                 primary key or another unique index."
                    .to_owned(),
                format!(
                    "On the subscriber, as the owner of the table, if nobody needs these rows: TRUNCATE {table}; \
                     The copy goes on by itself. If they are the publisher's rows, recreate the subscription with \
                     copy_data = false."
                ),
            ),
            Self::NoIdentity => (
                "no_identity",
                format!("Table {name} has no primary key and no replica identity on the subscriber."),
                "Without one, updates and deletes do not find their row; inserts work.".to_owned(),
                format!(
                    "On the subscriber, as the owner of the table: ALTER TABLE {table} ADD PRIMARY KEY (…); with the columns of the \
                     publisher's key."
                ),
            ),
            Self::OtherIdentity(columns) => (
                "other_identity",
                format!("The key of table {name} on the subscriber is not the publisher's."),
                format!(
                    "The publisher does not send the old values of {} with updates and deletes.",
                    names::list(columns.iter().map(|column| column.as_str().to_owned()))
                ),
                format!(
                    "On the publisher, as the owner of the table: ALTER TABLE {table} REPLICA IDENTITY FULL; Or give both the same primary key."
                ),
            ),
            Self::MissingLabels { ty, labels } => (
                "missing_label",
                format!("Enum {ty} of table {name} lacks labels on the subscriber: {}.", labels.join(", ")),
                "The publisher's type has them.".to_owned(),
                format!(
                    "On the subscriber, as the owner of the type: {}",
                    labels.iter().map(|label| add_label(ty, label)).collect::<Vec<_>>().join(" ")
                ),
            ),
            Self::Narrower { column, publisher, subscriber } => (
                "narrower_type",
                format!("Column {} of table {name} does not accept every value of the publisher.", column.as_str()),
                format!("It is {publisher} on the publisher and {subscriber} on the subscriber."),
                format!(
                    "On the subscriber, as the owner of the table: ALTER TABLE {table} ALTER COLUMN {column} TYPE {publisher};"
                ),
            ),
            Self::ExtraUnique { index, columns } => (
                "extra_unique",
                format!("Table {name} has unique index {} only on the subscriber.", index.as_str()),
                format!("The publisher allows two rows with the same {columns}."),
                format!(
                    "On the subscriber, as the owner of the table: DROP INDEX {}.{index}; or, where a constraint made it: ALTER TABLE \
                     {table} DROP CONSTRAINT {index};",
                    table.schema
                ),
            ),
            Self::ExtraCheck(check) => (
                "extra_check",
                format!("Table {name} has check {} only on the subscriber.", check.as_str()),
                "Rows of the publisher may violate it.".to_owned(),
                format!("On the subscriber, as the owner of the table: ALTER TABLE {table} DROP CONSTRAINT {check};"),
            ),
            Self::Trigger(trigger) => (
                "replica_trigger",
                format!("Trigger {} of table {name} on the subscriber fires for replicated rows.", trigger.as_str()),
                "It is enabled as ALWAYS or REPLICA. An error in it stops replication, and it runs with an empty \
                 search_path."
                    .to_owned(),
                format!(
                    "On the subscriber, as the owner of the table: ALTER TABLE {table} ENABLE TRIGGER {trigger}; It then fires for other sessions only."
                ),
            ),
            Self::Function { function, arguments, by } => (
                "search_path",
                format!(
                    "{} of table {name} calls function {} on the subscriber, which depends on the search_path.",
                    capitalized(by),
                    function.to_text()
                ),
                "Replication runs with an empty search_path, and the function does not set one.".to_owned(),
                format!(
                    "On the subscriber, as the owner of the function: ALTER FUNCTION {function}({arguments}) SET search_path = {}, pg_temp;",
                    function.schema
                ),
            ),
            Self::Referenced { by, constraint, is_extra } => (
                "referenced_table",
                format!(
                    "Table {name} cannot be truncated on the subscriber: a foreign key of {} refers to it.",
                    by.to_text()
                ),
                format!(
                    "{} TRUNCATE is replicated, but refused there as long as the key exists.",
                    match is_extra {
                        true => format!("Foreign key {} exists only on the subscriber.", constraint.as_str()),
                        false => format!(
                            "{}, which has foreign key {}, is not replicated by this subscription, so it is not truncated together with \
                             it.",
                            by.to_text(),
                            constraint.as_str()
                        ),
                    }
                ),
                format!(
                    "On the subscriber, as the owner of the table: ALTER TABLE {by} DROP CONSTRAINT {constraint}; and add it again after \
                     the cutover."
                ),
            ),
        }
    }

    /// One example of each kind, for the guide.
    pub(super) fn examples() -> Vec<Self> {
        let name = |text: &str| Ident::new(text).ok();
        let examples = || {
            Some(vec![
                Self::NoTable { columns: "\"id\" bigint NOT NULL, \"total\" numeric, PRIMARY KEY (\"id\")".to_owned() },
                Self::FormerName { columns: vec![name("id")?, name("total")?] },
                Self::NotATable,
                Self::Clash(vec![name("shop")?, name("reports")?]),
                Self::Renamed { from: name("region")?, to: name("country")? },
                Self::MissingColumn { column: name("note")?, ty: "text".to_owned() },
                Self::Generated(name("total")?),
                Self::Required(name("checked_by")?),
                Self::BinaryType {
                    column: name("total")?,
                    publisher: "bigint".to_owned(),
                    subscriber: "integer".to_owned(),
                },
                Self::NoSelect(name("replicator")?),
                Self::NoSetRole { subscription: name("neon")?, table: name("app")? },
                Self::NoWrite { role: name("neon")?, privileges: vec!["INSERT".to_owned(), "UPDATE".to_owned()] },
                Self::RowSecurity,
                Self::HeldRows,
                Self::NoIdentity,
                Self::OtherIdentity(vec![name("region")?]),
                Self::MissingLabels { ty: "public.state".to_owned(), labels: vec!["returned".to_owned()] },
                Self::Narrower {
                    column: name("total")?,
                    publisher: "bigint".to_owned(),
                    subscriber: "integer".to_owned(),
                },
                Self::ExtraUnique { index: name("orders_note_key")?, columns: "note".to_owned() },
                Self::ExtraCheck(name("orders_total_check")?),
                Self::Trigger(name("audit")?),
                Self::Function {
                    function: QualifiedName::parse("public.is_known").ok()?,
                    arguments: "text".to_owned(),
                    by: "a check".to_owned(),
                },
                Self::Referenced {
                    by: QualifiedName::parse("public.lines").ok()?,
                    constraint: name("lines_order_fkey")?,
                    is_extra: true,
                },
            ])
        };
        examples().unwrap_or_default()
    }
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
