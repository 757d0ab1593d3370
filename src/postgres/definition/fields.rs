// SPDX-License-Identifier: MPL-2.0

//! Tests that later changes of each field of a definition are followed or reported. A new field does not compile until it
//! is in one of the lists below.

use std::collections::BTreeMap;

use super::difference::{BeyondNames, differences};
use super::model::{
    Collation, Column, Constraint, ConstraintKind, Definition, Domain, DomainConstraint, Extension, Field, Function,
    Index, Range, Sequence, Statistics, Table, Type, TypeKind,
};
use super::samples::{column, database, ident, name};
use super::steps::steps;

/// Variants of a value, one for each field that counts, with the field's name. Fields that do not count follow `not`,
/// each with the reason.
macro_rules! variants {
    ($of:ident $value:expr; $($field:ident: $new:expr),* $(,)?; not $($other:ident: $why:literal),* $(,)?) => {{
        let value = &$value;
        let $of { $($field: _,)* $($other: _,)* } = value;
        let _reasons = [$($why,)* ""];
        vec![$((concat!(stringify!($of), ".", stringify!($field)), $of { $field: $new, ..value.clone() })),*]
    }};
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// A database with one of each kind.
fn whole() -> Definition {
    let mut whole = database(18)
        .table("t", "id a")
        .constraint("t", "t_pkey", "PRIMARY KEY (id)")
        .constraint("t", "t_a", "CHECK (a > 0)")
        .constraint("t", "t_u", "FOREIGN KEY (a) REFERENCES public.u(id)")
        .table("u", "id")
        .index("t", "t_i", "USING btree (a)")
        .statistics("t", "t_s", "CREATE STATISTICS public.t_s ON id, a FROM public.t");
    let not_null = Constraint { kind: ConstraintKind::NotNull, ..constraint(&whole, "t_pkey").clone() };
    let table = whole.tables.get_mut(&name("t")).unwrap();
    table.columns[0].not_null = Some(Constraint { name: ident("t_id_not_null"), ..not_null });
    table.columns[1] = Column { sequence: Some(sequence()), identity: text("d"), ..column(2, "a") };
    whole.sequences.insert(name("s"), sequence());
    whole.collations.insert(name("c"), collation());
    for (called, kind) in [
        ("e", TypeKind::Enum(vec!["a".to_owned()])),
        ("d", TypeKind::Domain(domain())),
        ("f", TypeKind::Composite(vec![field()])),
        ("r", TypeKind::Range(range())),
    ] {
        whole.types.insert(name(called), Type { kind, comment: None });
    }
    let definition = "CREATE OR REPLACE FUNCTION public.f() …".to_owned();
    let function = Function { signature: "public.f()".to_owned(), schema: ident("public"), definition, comment: None };
    whole.functions.insert(function.signature.clone(), function);
    whole
}

fn constraint<'a>(of: &'a Definition, called: &str) -> &'a Constraint {
    &of.tables[&name("t")].constraints[&ident(called)]
}

fn sequence() -> Sequence {
    Sequence {
        name: name("s"),
        ty: "bigint".to_owned(),
        start: 1,
        increment: 1,
        min: 1,
        max: 9,
        cache: 1,
        cycles: false,
        is_unlogged: false,
        owner: None,
        comment: None,
    }
}

fn collation() -> Collation {
    Collation {
        name: name("c"),
        provider: "i".to_owned(),
        collate: None,
        ctype: None,
        locale: text("de"),
        rules: None,
        is_deterministic: true,
        comment: None,
    }
}

fn domain() -> Domain {
    let constraint = DomainConstraint { name: ident("k"), definition: "CHECK (VALUE > 0)".to_owned(), comment: None };
    Domain {
        base: "integer".to_owned(),
        collation: None,
        is_not_null: true,
        name_of_not_null: Some(ident("d_not_null")),
        default: None,
        constraints: BTreeMap::from([(ident("k"), constraint)]),
    }
}

fn field() -> Field {
    Field { name: ident("street"), ty: "text".to_owned(), collation: None, comment: None }
}

fn range() -> Range {
    Range {
        subtype: "integer".to_owned(),
        opclass: None,
        collation: None,
        canonical: None,
        difference: None,
        multirange: name("rs"),
    }
}

/// All variants, each within a whole database.
fn variants() -> Vec<(&'static str, Definition)> {
    let base = whole();
    let within = |change: &dyn Fn(&mut Definition)| {
        let mut changed = base.clone();
        change(&mut changed);
        changed
    };
    let t = || name("t");
    let mut all = Vec::new();
    let ty =
        |called: &str, kind: TypeKind| within(&|whole| whole.types.get_mut(&name(called)).unwrap().kind = kind.clone());
    all.extend(
        of_table(&base.tables[&t()])
            .into_iter()
            .map(|(what, table)| (what, within(&|whole| *whole.tables.get_mut(&t()).unwrap() = table.clone()))),
    );
    all.extend(of_column(&base.tables[&t()].columns[1]).into_iter().map(|(what, column)| {
        (what, within(&|whole| whole.tables.get_mut(&t()).unwrap().columns[1] = column.clone()))
    }));
    for called in ["t_pkey", "t_a", "t_u"] {
        let found = of_constraint(constraint(&base, called));
        all.extend(found.into_iter().filter(|(what, _)| called == "t_pkey" || !what.ends_with("index_options")).map(
            |(what, one)| {
                let place = |whole: &mut Definition| {
                    whole.tables.get_mut(&t()).unwrap().constraints.insert(ident(called), one.clone());
                };
                (what, within(&place))
            },
        ));
    }
    let not_null = base.tables[&t()].columns[0].not_null.clone().unwrap();
    all.extend(of_not_null(&not_null).into_iter().map(|(what, one)| {
        (what, within(&|whole| whole.tables.get_mut(&t()).unwrap().columns[0].not_null = Some(one.clone())))
    }));
    all.extend(
        of_sequence()
            .into_iter()
            .map(|(what, one)| (what, within(&|whole| *whole.sequences.get_mut(&name("s")).unwrap() = one.clone()))),
    );
    let of_identity = of_sequence().into_iter().filter(|(what, _)| !NOT_OF_IDENTITY.contains(what));
    all.extend(of_identity.map(|(what, one)| {
        (what, within(&|whole| whole.tables.get_mut(&t()).unwrap().columns[1].sequence = Some(one.clone())))
    }));
    all.extend(
        of_collation()
            .into_iter()
            .map(|(what, one)| (what, within(&|whole| *whole.collations.get_mut(&name("c")).unwrap() = one.clone()))),
    );
    all.extend(of_domain().into_iter().map(|(what, domain)| (what, ty("d", TypeKind::Domain(domain)))));
    let fields = variants!(Field field(); name: ident("other"), ty: "integer".to_owned(), collation: Some(name("c")),
        comment: text("new"); not);
    all.extend(fields.into_iter().map(|(what, field)| (what, ty("f", TypeKind::Composite(vec![field])))));
    let ranges = variants!(Range range(); subtype: "bigint".to_owned(), opclass: Some(name("o")), collation: Some(name("c")),
        canonical: Some(name("k")), difference: Some(name("x")), multirange: name("other"); not);
    all.extend(ranges.into_iter().map(|(what, range)| (what, ty("r", TypeKind::Range(range)))));
    all.push(("TypeKind::Enum", ty("e", TypeKind::Enum(vec!["a".to_owned(), "b".to_owned()]))));
    let types =
        variants!(Type base.types[&name("e")]; comment: text("new"); not kind: "each kind has its own variants");
    all.extend(
        types
            .into_iter()
            .map(|(what, ty)| (what, within(&|whole| *whole.types.get_mut(&name("e")).unwrap() = ty.clone()))),
    );
    let functions = variants!(Function base.functions["public.f()"]; definition: "other".to_owned(), comment: text("new");
        not signature: "it is its name", schema: "it is in its name");
    all.extend(
        functions
            .into_iter()
            .map(|(what, one)| (what, within(&|whole| *whole.functions.get_mut("public.f()").unwrap() = one.clone()))),
    );
    let indexes = variants!(Index base.indexes[&name("t_i")]; definition: "other".to_owned(), is_valid: false,
        statistics: Some(BTreeMap::from([("1".to_owned(), 5)])), comment: text("new");
        not name: "it is its name", table: "the definition has it", tail: "the definition has it",
        is_unique: "the definition has it", nulls_are_equal: "the definition has it",
        is_replica_identity: "the table has it", is_clone: "it comes with its parent", parent: "it comes with its parent");
    all.extend(
        indexes
            .into_iter()
            .map(|(what, one)| (what, within(&|whole| *whole.indexes.get_mut(&name("t_i")).unwrap() = one.clone()))),
    );
    let statistics = variants!(Statistics base.statistics[&name("t_s")]; definition: "other".to_owned(), target: Some(5),
        comment: text("new"); not name: "it is its name", table: "the definition has it");
    all.extend(
        statistics
            .into_iter()
            .map(|(what, one)| (what, within(&|whole| *whole.statistics.get_mut(&name("t_s")).unwrap() = one.clone()))),
    );
    let _: Vec<(&str, Extension)> = variants!(Extension Extension { name: ident("x"), version: String::new(), schema: ident("public"), is_needed: true };;
        not name: "a plan refuses what lacks it", version: "extensions are for a person", schema: "a plan refuses another one",
        is_needed: "it is no property of its own");
    let _: Vec<(&str, Definition)> = variants!(Definition base;; not version: "it is the server's", schemas: "one that is there stays as it is",
        extensions: "a plan refuses what lacks one", collations: "variants of their own", types: "the same", functions: "the same",
        sequences: "the same", tables: "the same", indexes: "the same", statistics: "the same", others: "a plan refuses them",
        needs: "they follow from the rest");
    all
}

fn of_table(table: &Table) -> Vec<(&'static str, Table)> {
    variants!(Table *table; columns: vec![column(1, "id")], is_unlogged: true, partition_key: text("LIST (a)"),
        parents: vec![name("p")], bound: text("DEFAULT"), of_type: text("f"), options: ["fillfactor=7".to_owned()].into(),
        constraints: BTreeMap::new(), replica_identity: "f".to_owned(), clustered_by: Some(ident("t_i")), comment: text("new");
        not oid: "it tells tables apart that have one name", access_method: "it is not copied",
        identity_index: "it counts with a replica identity by index, below", attached: "it is not copied")
    .into_iter()
    .chain([("Table.identity_index", Table {
        replica_identity: "i".to_owned(),
        identity_index: Some(ident("t_i")),
        ..table.clone()
    })])
    .collect()
}

fn of_column(column: &Column) -> Vec<(&'static str, Column)> {
    variants!(Column *column; name: ident("other"), ty: "bigint".to_owned(), collation: Some(name("c")), is_not_null: false,
        expression: text("1"), generated: text("s"), identity: text("a"), sequence: None, storage: text("e"),
        compression: text("l"), statistics: Some(5), options: Some(["n_distinct=5".to_owned()].into()), comment: text("new");
        not number: "it tells columns apart that have one name", not_null: "it has variants of its own", is_local: "it follows from the parents",
        is_inherited: "it follows from the parents")
    .into_iter()
    // One is generated from its expression.
    .filter(|(what, _)| *what != "Column.generated")
    .chain([("Column.generated", Column { expression: text("1"), generated: text("s"), ..column.clone() })])
    .collect()
}

fn of_constraint(constraint: &Constraint) -> Vec<(&'static str, Constraint)> {
    let options = Some(["fillfactor=7".to_owned()].into());
    variants!(Constraint *constraint; definition: "other".to_owned(), index_options: options, comment: text("new");
        not name: "it is its name", kind: "the definition has it", is_local: "it comes with a parent",
        is_not_inherited: "the definition has it", is_valid: "the definition has it", is_enforced: "the definition has it",
        is_temporal: "the definition has it", is_clone: "it comes with a parent", nulls_are_equal: "the definition has it",
        sets_some: "the definition has it", references: "the definition has it", counts_on: "it is the server's choice",
        columns: "the definition has it")
}

fn of_not_null(constraint: &Constraint) -> Vec<(&'static str, Constraint)> {
    let comment = Constraint { comment: text("new"), ..constraint.clone() };
    let inherited = Constraint { is_not_inherited: true, ..constraint.clone() };
    let valid = Constraint { is_valid: false, ..constraint.clone() };
    let called = Constraint { name: ident("other"), ..constraint.clone() };
    [("NOT NULL's comment", comment), ("NO INHERIT", inherited), ("NOT VALID", valid), ("NOT NULL's name", called)]
        .into()
}

/// The fields that an identity column's sequence takes from its table and column.
const NOT_OF_IDENTITY: [&str; 3] = ["Sequence.ty", "Sequence.is_unlogged", "Sequence.owner"];

fn of_sequence() -> Vec<(&'static str, Sequence)> {
    variants!(Sequence sequence(); ty: "integer".to_owned(), start: 2, increment: 2, min: 0, max: 8, cache: 2, cycles: true,
        is_unlogged: true, owner: Some((name("t"), ident("a"))), comment: text("new"); not name: "it is its name")
}

fn of_collation() -> Vec<(&'static str, Collation)> {
    variants!(Collation collation(); provider: "c".to_owned(), collate: text("C"), ctype: text("C"), locale: text("sv"),
        rules: text("&a<b"), is_deterministic: false, comment: text("new"); not name: "it is its name")
}

fn of_domain() -> Vec<(&'static str, Domain)> {
    let with = |change: fn(&mut DomainConstraint)| {
        let mut domain = domain();
        domain.constraints.values_mut().for_each(change);
        domain
    };
    let constraints = variants!(DomainConstraint domain().constraints[&ident("k")]; definition: String::new(),
        comment: None; not name: "it is its name");
    assert_eq!(constraints.len(), 2, "both are changed below");
    let constraints = [
        ("DomainConstraint.definition", with(|one| one.definition = "CHECK (VALUE > 1)".to_owned())),
        ("DomainConstraint.comment", with(|one| one.comment = text("new"))),
    ];
    let own = variants!(Domain domain(); base: "bigint".to_owned(), collation: Some(name("c")), is_not_null: false,
        name_of_not_null: Some(ident("other")), default: text("1"), constraints: BTreeMap::new(); not);
    own.into_iter().chain(constraints).collect()
}

#[test]
fn a_later_change_of_any_field_is_a_difference() {
    let (before, beyond) = (whole(), BeyondNames::default());
    assert_eq!(differences(&before, &before, &beyond), []);
    let variants = variants();
    for (what, after) in &variants {
        assert_ne!(*after, before, "{what} changes nothing");
        for (publisher, subscriber) in [(after, &before), (&before, after)] {
            let found = differences(publisher, subscriber, &beyond);
            assert!(!found.is_empty(), "{what} is not told");
            for one in found {
                assert!(
                    !one.remedy().is_empty() || what.contains("Column.sequence"),
                    "{what}: nothing to do about {one:?}"
                );
            }
        }
    }
    println!("{} fields", variants.len());
}

#[test]
fn a_comment_is_followed_wherever_it_is() {
    let (before, beyond) = (whole(), BeyondNames::default());
    let all = variants();
    let comments: Vec<_> = all.iter().filter(|(what, _)| what.ends_with("comment")).collect();
    assert!(comments.len() >= 15, "{}", comments.len());
    for (what, after) in comments {
        for (publisher, subscriber, text) in [(after, &before, "IS 'new'"), (&before, after, "IS NULL")] {
            let found = differences(publisher, subscriber, &beyond);
            let mends = found.iter().map(|one| one.mend().unwrap_or_else(|| panic!("{what}: {one:?}")));
            let mends: Vec<_> = mends.flatten().map(|statement| statement.to_string()).collect();
            assert!(mends.len() == 1 && mends[0].ends_with(text), "{what}: {mends:?}");
        }
        // A change that is followed gives the same result as creating the object.
        let made = steps(after, |_| true).unwrap();
        let made: Vec<_> = made.iter().flat_map(|step| &step.statements).map(ToString::to_string).collect();
        assert!(made.iter().any(|statement| statement.ends_with("IS 'new'")), "{what} is not made: {made:#?}");
    }
}
