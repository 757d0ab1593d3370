// SPDX-License-Identifier: MPL-2.0

//! Finds problems of publishing tables as they are: what Postgres refuses, and what it accepts although the
//! application's statements then fail, because every UPDATE and DELETE of a published table must identify its row.
//! Pure.
//!
//! Source: "Replica Identity", "Row Filters" and "Column Lists" in the Postgres documentation.

use std::collections::{BTreeMap, BTreeSet};

use super::{GeneratedColumns, Operation, Publication, TableSpec, Target};
use crate::postgres::catalog::{Identity, Kind, Outline, Relation, SYSTEM_TABLE, is_system_schema};
use crate::postgres::sql::{Ident, QualifiedName};
use crate::postgres::version::{self, ServerVersion};

/// The columns that row filters use, by table.
pub type FilterColumns = BTreeMap<QualifiedName, BTreeSet<Ident>>;

/// A flaw of a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// The problem.
    pub problem: Problem,
    /// The member of the publication that causes it.
    pub member: Member,
    /// The affected tables, each with the columns that matter, if any.
    pub tables: BTreeMap<QualifiedName, BTreeSet<Ident>>,
}

/// A member of a publication.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Member {
    /// A listed table.
    Table(QualifiedName),
    /// A listed schema.
    Schema(Ident),
    /// All tables.
    AllTables,
    /// The publication as a whole.
    Whole,
}

/// The kind of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// The table does not exist.
    NoTable,
    /// The schema does not exist.
    NoSchema,
    /// `wal_level` is too low.
    WalLevel,
    /// Tables without a replica identity.
    NoIdentity,
    /// Partitioned tables without a replica identity, under whose names rows of partitions with one are sent: the
    /// publisher accepts changes whose rows subscribers cannot find.
    RootWithoutIdentity,
    /// Partitions whose replica identity lacks columns of the identity of the partitioned table under whose name they
    /// are sent: subscribers do not find the rows, and do not report it.
    LessThanRoot,
    /// A row filter on columns outside the replica identity.
    FilterOutsideIdentity,
    /// A column list without all columns of the replica identity.
    ColumnsWithoutIdentity,
    /// A column list although the replica identity is the whole row.
    ColumnsOfFullIdentity,
    /// Generated columns in the replica identity that are not published (Postgres 18).
    GeneratedIdentity,
    /// A relation of this kind, which cannot be published.
    WrongKind(&'static str),
    /// A system schema.
    SystemSchema,
    /// A row filter on a partitioned table that is not published as such.
    PartitionedFilter,
    /// A column list on a partitioned table that is not published as such.
    PartitionedColumns,
}

/// The severity of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gravity {
    /// It may be gone before the publication is created.
    Passing,
    /// Postgres accepts it, and then the application's statements fail.
    Breaking,
    /// Postgres refuses it.
    Refused,
}

impl Problem {
    /// Its severity.
    pub fn gravity(self) -> Gravity {
        match self {
            Self::NoTable | Self::NoSchema | Self::WalLevel => Gravity::Passing,
            Self::NoIdentity
            | Self::RootWithoutIdentity
            | Self::LessThanRoot
            | Self::FilterOutsideIdentity
            | Self::ColumnsWithoutIdentity
            | Self::ColumnsOfFullIdentity
            | Self::GeneratedIdentity => Gravity::Breaking,
            Self::WrongKind(_) | Self::SystemSchema | Self::PartitionedFilter | Self::PartitionedColumns => {
                Gravity::Refused
            }
        }
    }
}

/// The tables whose filters' columns [`flaws`] must know.
pub fn filters_to_read<'a>(
    publication: &'a Publication,
    outline: &'a Outline,
) -> impl Iterator<Item = (&'a QualifiedName, &'a super::RowFilter)> {
    let filters = publication.listed().filter_map(|(table, spec)| Some((table, spec.filter.as_ref()?)));
    filters.filter(|(table, _)| {
        let relation = outline.relations.get(*table);
        let may_lack = relation.is_some_and(|relation| match relation.kind {
            Kind::Table => matches!(relation.identity, Identity::Columns(_)),
            Kind::Partitioned => true,
            Kind::Other(_) => false,
        });
        may_lack && publication.needs_identity()
    })
}

/// The flaws of a publication of these relations.
///
/// Filters that are not in `filters` are skipped.
pub fn flaws(
    publication: &Publication,
    outline: &Outline,
    filters: &FilterColumns,
    version: ServerVersion,
) -> Vec<Flaw> {
    let mut found = Vec::new();
    if outline.wal_level != "logical" {
        found.push(Flaw { problem: Problem::WalLevel, member: Member::Whole, tables: BTreeMap::new() });
    }
    for (table, spec) in publication.listed() {
        found.extend(member_problem(publication, table, spec, outline).map(|problem| of_table(problem, table)));
    }
    for schema in publication.listed_schemas() {
        found.extend(schema_problem(schema, outline).map(|problem| Flaw {
            problem,
            member: Member::Schema(schema.clone()),
            tables: BTreeMap::new(),
        }));
    }
    if publication.needs_identity() {
        found.extend(broken(publication, outline, filters, version));
    }
    found
}

fn of_table(problem: Problem, table: &QualifiedName) -> Flaw {
    let tables = BTreeMap::from([(table.clone(), BTreeSet::new())]);
    Flaw { problem, member: Member::Table(table.clone()), tables }
}

/// Why a table cannot be listed.
fn member_problem(
    publication: &Publication,
    table: &QualifiedName,
    spec: &TableSpec,
    outline: &Outline,
) -> Option<Problem> {
    let kind = match outline.relations.get(table) {
        Some(relation) => relation.kind,
        None if is_system_schema(&table.schema) => SYSTEM_TABLE,
        None => return Some(Problem::NoTable),
    };
    match kind {
        Kind::Other(kind) => Some(Problem::WrongKind(kind)),
        Kind::Partitioned if !publication.via_partition_root && spec.filter.is_some() => {
            Some(Problem::PartitionedFilter)
        }
        Kind::Partitioned if !publication.via_partition_root && spec.columns.is_some() => {
            Some(Problem::PartitionedColumns)
        }
        _ => None,
    }
}

fn schema_problem(schema: &Ident, outline: &Outline) -> Option<Problem> {
    if is_system_schema(schema) {
        Some(Problem::SystemSchema)
    } else {
        (!outline.schemas.contains(schema)).then_some(Problem::NoSchema)
    }
}

/// The tables whose updates and deletes would fail, one flaw for each problem of each member.
fn broken(publication: &Publication, outline: &Outline, filters: &FilterColumns, version: ServerVersion) -> Vec<Flaw> {
    let mut found: BTreeMap<(Problem, Member), BTreeMap<QualifiedName, BTreeSet<Ident>>> = BTreeMap::new();
    for (name, member) in published(publication, outline) {
        let Some(relation) = outline.relations.get(name) else { continue };
        let (governing, spec) = publication.governing(name, relation);
        let used = filters.get(governing);
        let member_for = |is_listed: bool| if is_listed { Member::Table(governing.clone()) } else { member.clone() };
        for (problem, columns) in identity_problems(relation, spec, used, publication.generated_columns, version) {
            let member = member_for(spec.is_some());
            found.entry((problem, member)).or_default().insert(name.clone(), columns);
        }
        let root = outline.relations.get(governing).filter(|_| governing != name);
        if let Some((problem, columns)) = root.and_then(|root| root_problem(relation, root)) {
            let about = if problem == Problem::RootWithoutIdentity { governing } else { name };
            found.entry((problem, member_for(spec.is_some()))).or_default().insert(about.clone(), columns);
        }
    }
    found.into_iter().map(|((problem, member), tables)| Flaw { problem, member, tables }).collect()
}

/// Why updates and deletes of one table would fail, with the columns that matter.
fn identity_problems(
    relation: &Relation,
    spec: Option<&TableSpec>,
    filter_uses: Option<&BTreeSet<Ident>>,
    generated: GeneratedColumns,
    version: ServerVersion,
) -> Vec<(Problem, BTreeSet<Ident>)> {
    let listed = spec.and_then(|spec| spec.columns.as_ref());
    let mut found = Vec::new();
    match &relation.identity {
        Identity::Missing => return vec![(Problem::NoIdentity, BTreeSet::new())],
        Identity::Full if listed.is_some() => found.push((Problem::ColumnsOfFullIdentity, BTreeSet::new())),
        Identity::Full => {}
        Identity::Columns(identity) => {
            let outside = filter_uses.map(|uses| uses - identity).unwrap_or_default();
            let uncovered = listed.map(|listed| identity - listed).unwrap_or_default();
            found.push((Problem::FilterOutsideIdentity, outside));
            found.push((Problem::ColumnsWithoutIdentity, uncovered));
            found.retain(|(_, columns)| !columns.is_empty());
        }
    }
    let unpublished = match generated {
        GeneratedColumns::None => &relation.stored_generated | &relation.virtual_generated,
        GeneratedColumns::Stored => relation.virtual_generated.clone(),
    };
    if version.has(version::PUBLISH_GENERATED_COLUMNS) && listed.is_none() && !unpublished.is_empty() {
        found.push((Problem::GeneratedIdentity, unpublished));
    }
    found
}

/// Why subscribers would not find the rows of a partition that is sent under another table's name: they search by that
/// table's identity, but get the values of the partition's.
fn root_problem(partition: &Relation, root: &Relation) -> Option<(Problem, BTreeSet<Ident>)> {
    match (&partition.identity, &root.identity) {
        (Identity::Missing, _) => None,
        (_, Identity::Missing) => Some((Problem::RootWithoutIdentity, BTreeSet::new())),
        (Identity::Full, _) => None,
        (Identity::Columns(_), Identity::Full) => Some((Problem::LessThanRoot, BTreeSet::new())),
        (Identity::Columns(own), Identity::Columns(roots)) => {
            let lacking = roots - own;
            (!lacking.is_empty()).then_some((Problem::LessThanRoot, lacking))
        }
    }
}

/// The published tables that are not partitioned, each with the member that publishes it.
fn published<'a>(publication: &'a Publication, outline: &'a Outline) -> BTreeMap<&'a QualifiedName, Member> {
    let mut found = BTreeMap::new();
    for (table, _) in publication.listed() {
        let partitions = outline.partitions.get(table).into_iter().flatten();
        let itself = outline.relations.get(table).filter(|relation| relation.kind == Kind::Table).map(|_| table);
        for name in partitions.chain(itself) {
            found.entry(name).or_insert_with(|| Member::Table(table.clone()));
        }
    }
    if publication.target != Target::AllTables && publication.listed_schemas().next().is_none() {
        return found;
    }
    for (name, relation) in outline.relations.iter().filter(|(_, relation)| relation.kind == Kind::Table) {
        if let Some(member) = publication.member_of_all(name, relation) {
            found.entry(name).or_insert(member);
        }
    }
    found
}

impl Publication {
    /// The listed tables.
    pub(super) fn listed(&self) -> impl Iterator<Item = (&QualifiedName, &TableSpec)> {
        let tables = match &self.target {
            Target::AllTables => None,
            Target::Lists { tables, .. } => Some(tables),
        };
        tables.into_iter().flatten()
    }

    /// The listed schemas.
    fn listed_schemas(&self) -> impl Iterator<Item = &Ident> {
        let schemas = match &self.target {
            Target::AllTables => None,
            Target::Lists { schemas, .. } => Some(schemas),
        };
        schemas.into_iter().flatten()
    }

    /// Whether it publishes operations that need a replica identity.
    fn needs_identity(&self) -> bool {
        self.publish.contains(&Operation::Update) || self.publish.contains(&Operation::Delete)
    }

    /// The member that publishes a table without naming it.
    fn member_of_all(&self, name: &QualifiedName, relation: &Relation) -> Option<Member> {
        let Target::Lists { schemas, .. } = &self.target else { return Some(Member::AllTables) };
        let mut names = std::iter::once(name).chain(&relation.ancestors);
        let member = names.find(|name| schemas.contains(&name.schema))?;
        Some(Member::Schema(member.schema.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::catalog::ReplicaIdentity;
    use crate::postgres::publication::RowFilter;

    fn ident(text: &str) -> Ident {
        Ident::new(text).unwrap()
    }

    fn table(text: &str) -> QualifiedName {
        QualifiedName::parse(text).unwrap()
    }

    fn idents(text: &str) -> BTreeSet<Ident> {
        text.split_whitespace().map(ident).collect()
    }

    /// A relation from `none`, `full` or the columns of its identity.
    fn relation(kind: Kind, identity: &str, ancestors: &[&str]) -> Relation {
        let identity = match identity {
            "none" => Identity::Missing,
            "full" => Identity::Full,
            columns => Identity::Columns(idents(columns)),
        };
        let ancestors = ancestors.iter().map(|name| table(name)).collect();
        Relation {
            kind,
            is_unlogged: false,
            replica_identity: ReplicaIdentity::Default,
            has_primary_key: false,
            identity,
            stored_generated: idents(""),
            virtual_generated: idents(""),
            ancestors,
        }
    }

    /// `keyed` (id), `full`, `bare` (no identity), `view`, and `parted` with a bare partition `other.part`.
    fn relations() -> Outline {
        let schemas = ["public", "other", "pg_catalog"].map(ident);
        let mut relations = Outline { wal_level: "logical".to_owned(), schemas: schemas.into(), ..Outline::default() };
        relations.insert(table("keyed"), relation(Kind::Table, "id", &[]));
        relations.insert(table("full"), relation(Kind::Table, "full", &[]));
        relations.insert(table("bare"), relation(Kind::Table, "none", &[]));
        relations.insert(table("view"), relation(Kind::Other("a view"), "none", &[]));
        relations.insert(table("parted"), relation(Kind::Partitioned, "none", &[]));
        relations.insert(table("other.part"), relation(Kind::Table, "none", &["parted"]));
        relations
    }

    /// A publication from `table(columns)?filter`, `schema.*` and `*`.
    fn publication(members: &[&str]) -> Publication {
        let (mut tables, mut schemas) = (BTreeMap::new(), BTreeSet::new());
        for member in members {
            if let Some(schema) = member.strip_suffix(".*") {
                schemas.insert(ident(schema));
            } else {
                let (name, filter) = member.split_once('?').map_or((*member, None), |(name, text)| (name, Some(text)));
                let (name, columns) = name.split_once('(').map_or((name, None), |(name, list)| (name, Some(list)));
                let columns = columns.map(|columns| idents(columns.trim_end_matches(')')));
                let filter = filter.map(|text| RowFilter::new(text).unwrap());
                tables.insert(table(name), TableSpec { columns, filter });
            }
        }
        let target = if members == ["*"] { Target::AllTables } else { Target::Lists { tables, schemas } };
        Publication::new(ident("p"), target)
    }

    /// Each flaw as `Problem member: tables(columns)`.
    fn found(publication: &Publication, outline: &Outline, filters: &[(&str, &str)], major: u32) -> Vec<String> {
        let filters = filters.iter().map(|(name, columns)| (table(name), idents(columns))).collect();
        let show = |flaw: Flaw| {
            let member = match flaw.member {
                Member::Table(name) => name.to_text(),
                Member::Schema(name) => format!("{}.*", name.as_str()),
                Member::AllTables => "*".to_owned(),
                Member::Whole => "-".to_owned(),
            };
            let tables = flaw.tables.iter().map(|(name, columns)| {
                let columns: Vec<_> = columns.iter().map(Ident::as_str).collect();
                format!(" {}({})", name.to_text(), columns.join(" "))
            });
            format!("{:?} {member}:{}", flaw.problem, tables.collect::<String>())
        };
        flaws(publication, outline, &filters, ServerVersion::major_only(major)).into_iter().map(show).collect()
    }

    fn check(members: &[&str], expected: &[&str]) {
        assert_eq!(found(&publication(members), &relations(), &[], 18), expected, "{members:?}");
    }

    #[test]
    fn a_table_needs_an_identity() {
        check(&["keyed", "full"], &[]);
        check(&["bare", "keyed"], &["NoIdentity public.bare: public.bare()"]);
        check(&["public.*"], &["NoIdentity public.*: other.part() public.bare()"]);
        check(&["other.*"], &["NoIdentity other.*: other.part()"]);
        check(&["*"], &["NoIdentity *: other.part() public.bare()"]);
        check(&["parted"], &["NoIdentity public.parted: other.part()"]);
        check(&["bare", "public.*"], &["NoIdentity public.bare: public.bare()", "NoIdentity public.*: other.part()"]);
    }

    #[test]
    fn a_partition_is_published_with_the_schema_of_its_root() {
        let mut relations = relations();
        relations.insert(table("other.deep"), relation(Kind::Table, "none", &["other.mid", "far.root"]));
        relations.schemas.insert(ident("far"));
        assert_eq!(found(&publication(&["far.*"]), &relations, &[], 15), ["NoIdentity far.*: other.deep()"]);
    }

    #[test]
    fn inserts_and_truncates_need_none() {
        let mut inserts = publication(&["bare", "full(id)", "keyed(a)?b > 1"]);
        inserts.publish = [Operation::Insert, Operation::Truncate].into();
        assert_eq!(found(&inserts, &relations(), &[("keyed", "b")], 18), [""; 0]);
        assert_eq!(filters_to_read(&inserts, &relations()).count(), 0);
        inserts.publish = [Operation::Delete].into();
        assert_eq!(found(&inserts, &relations(), &[("keyed", "b")], 18).len(), 4);
    }

    #[test]
    fn a_column_list_covers_the_identity() {
        check(&["keyed(id a)"], &[]);
        check(&["keyed(a)"], &["ColumnsWithoutIdentity public.keyed: public.keyed(id)"]);
        check(&["full(id a)"], &["ColumnsOfFullIdentity public.full: public.full()"]);
    }

    #[test]
    fn a_filter_uses_the_identity_alone() {
        let filtered = publication(&["keyed?a > id", "full?a > 1"]);
        let read: Vec<_> = filters_to_read(&filtered, &relations()).map(|(table, _)| table.to_text()).collect();
        assert_eq!(read, ["public.keyed"]);
        let outside = ["FilterOutsideIdentity public.keyed: public.keyed(a)"];
        assert_eq!(found(&filtered, &relations(), &[("keyed", "a id")], 15), outside);
        assert_eq!(found(&filtered, &relations(), &[("keyed", "id")], 15), [""; 0]);
        assert_eq!(found(&filtered, &relations(), &[], 15), [""; 0]);
    }

    #[test]
    fn generated_columns_of_the_identity_are_published_since_18() {
        let mut relations = relations();
        let full = relations.relations.get_mut(&table("full")).unwrap();
        full.stored_generated = idents("sum");
        let mut publication = publication(&["full"]);
        assert_eq!(found(&publication, &relations, &[], 17), [""; 0]);
        assert_eq!(found(&publication, &relations, &[], 18), ["GeneratedIdentity public.full: public.full(sum)"]);
        publication.generated_columns = GeneratedColumns::Stored;
        assert_eq!(found(&publication, &relations, &[], 18), [""; 0]);
        relations.relations.get_mut(&table("full")).unwrap().virtual_generated = idents("never");
        assert_eq!(found(&publication, &relations, &[], 18), ["GeneratedIdentity public.full: public.full(never)"]);
    }

    #[test]
    fn what_is_sent_under_another_name_is_found_by_that_ones_identity() {
        for (root, partition, expected) in [
            ("none", "id", "RootWithoutIdentity public.root: public.root()"),
            ("none", "full", "RootWithoutIdentity public.root: public.root()"),
            ("none", "none", "NoIdentity public.root: public.leaf()"),
            ("id", "none", "NoIdentity public.root: public.leaf()"),
            ("id", "id", ""),
            ("id", "id v", ""),
            ("id", "full", ""),
            ("full", "full", ""),
            ("full", "id", "LessThanRoot public.root: public.leaf()"),
            ("id v", "id u", "LessThanRoot public.root: public.leaf(v)"),
        ] {
            let mut outline = relations();
            outline.insert(table("root"), relation(Kind::Partitioned, root, &[]));
            outline.insert(table("leaf"), relation(Kind::Table, partition, &["root"]));
            let mut publication = publication(&["root"]);
            publication.via_partition_root = true;
            let expected: Vec<_> = [expected].into_iter().filter(|line| !line.is_empty()).collect();
            assert_eq!(found(&publication, &outline, &[], 18), expected, "{root} {partition}");
            publication.via_partition_root = false;
            let own: Vec<_> = expected.into_iter().filter(|line| line.starts_with("NoIdentity")).collect();
            assert_eq!(found(&publication, &outline, &[], 18), own, "{root} {partition}, by itself");
        }
    }

    #[test]
    fn what_the_root_publishes_governs_its_partitions() {
        let mut relations = relations();
        relations.insert(table("parted"), relation(Kind::Partitioned, "id", &[]));
        relations.insert(table("leaf"), relation(Kind::Table, "id", &["parted"]));
        relations.relations.remove(&table("other.part"));
        let mut publication = publication(&["parted(a)", "leaf(id)"]);
        assert_eq!(found(&publication, &relations, &[], 15), ["PartitionedColumns public.parted: public.parted()"]);
        publication.via_partition_root = true;
        let uncovered = ["ColumnsWithoutIdentity public.parted: public.leaf(id)"];
        assert_eq!(found(&publication, &relations, &[], 15), uncovered);
    }

    #[test]
    fn what_cannot_be_a_member_is_said() {
        check(&["nowhere"], &["NoTable public.nowhere: public.nowhere()"]);
        check(&["nowhere.*"], &["NoSchema nowhere.*:"]);
        check(&["pg_catalog.*"], &["SystemSchema pg_catalog.*:"]);
        check(&["view"], &["WrongKind(\"a view\") public.view: public.view()"]);
        check(&["pg_catalog.pg_class"], &["WrongKind(\"a system table\") pg_catalog.pg_class: pg_catalog.pg_class()"]);
        let mut parted = publication(&["parted?a > 1"]);
        parted.publish = [Operation::Insert].into();
        assert_eq!(found(&parted, &relations(), &[], 15), ["PartitionedFilter public.parted: public.parted()"]);
        parted.via_partition_root = true;
        assert_eq!(found(&parted, &relations(), &[], 15), [""; 0]);
    }

    #[test]
    fn a_low_wal_level_is_said() {
        let relations = Outline { wal_level: "replica".to_owned(), ..relations() };
        assert_eq!(found(&publication(&[]), &relations, &[], 15), ["WalLevel -:"]);
    }
}
