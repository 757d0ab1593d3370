// SPDX-License-Identifier: MPL-2.0

//! The statements that create everything except tables: schemas, collations, types, functions, sequences, indexes,
//! statistics.

use crate::postgres::sql::{Literal, QualifiedName, list};

use super::model::{Collation, Domain, Field, Function, Index, Range, Sequence, Statistics, Type, TypeKind};

/// The statement that sets a comment, if there is one.
pub(super) fn comment(what: &str, text: Option<&String>) -> Option<String> {
    text.map(|text| format!("COMMENT ON {what} IS {}", Literal(text)))
}

/// A `COLLATE` clause with a leading space, if there is a collation.
pub(super) fn collate(collation: Option<&QualifiedName>) -> String {
    collation.map(|collation| format!(" COLLATE {collation}")).unwrap_or_default()
}

impl Collation {
    /// The statements that create it.
    pub(super) fn statements(&self) -> Vec<String> {
        let text = |name: &str, text: &Option<String>| text.as_ref().map(|text| format!("{name} = {}", Literal(text)));
        let provider = match self.provider.as_str() {
            "i" => "icu",
            "b" => "builtin",
            _ => "libc",
        };
        let options = [
            Some(format!("provider = {provider}")),
            text("lc_collate", &self.collate),
            text("lc_ctype", &self.ctype),
            text("locale", &self.locale),
            (!self.is_deterministic).then(|| "deterministic = false".to_owned()),
            text("rules", &self.rules),
        ];
        let create = format!("CREATE COLLATION {} ({})", self.name, list(options.into_iter().flatten()));
        [create].into_iter().chain(comment(&format!("COLLATION {}", self.name), self.comment.as_ref())).collect()
    }
}

impl Type {
    /// The statements that create it, without the constraints of a domain.
    pub(super) fn statements(&self, name: &QualifiedName) -> Vec<String> {
        let (create, kind) = match &self.kind {
            TypeKind::Enum(labels) => {
                (format!("CREATE TYPE {name} AS ENUM ({})", list(labels.iter().map(|label| Literal(label)))), "TYPE")
            }
            TypeKind::Domain(domain) => (domain.statement(name), "DOMAIN"),
            TypeKind::Composite(fields) => {
                (format!("CREATE TYPE {name} AS ({})", list(fields.iter().map(Field::declaration))), "TYPE")
            }
            TypeKind::Range(range) => (range.statement(name), "TYPE"),
        };
        let fields = if let TypeKind::Composite(fields) = &self.kind { fields.as_slice() } else { &[] };
        let of_fields =
            fields.iter().filter_map(|field| comment(&format!("COLUMN {name}.{}", field.name), field.comment.as_ref()));
        [create].into_iter().chain(comment(&format!("{kind} {name}"), self.comment.as_ref())).chain(of_fields).collect()
    }
}

impl Domain {
    fn statement(&self, name: &QualifiedName) -> String {
        let default = self.default.as_ref().map(|default| format!(" DEFAULT {default}")).unwrap_or_default();
        let name_of = self.name_of_not_null.as_ref().map(|name| format!(" CONSTRAINT {name}")).unwrap_or_default();
        let not_null = if self.is_not_null { format!("{name_of} NOT NULL") } else { String::new() };
        format!("CREATE DOMAIN {name} AS {}{}{default}{not_null}", self.base, collate(self.collation.as_ref()))
    }
}

impl Field {
    /// Its declaration in a composite type.
    pub(super) fn declaration(&self) -> String {
        format!("{} {}{}", self.name, self.ty, collate(self.collation.as_ref()))
    }
}

impl Range {
    fn statement(&self, name: &QualifiedName) -> String {
        let named = |name: &str, of: &Option<QualifiedName>| of.as_ref().map(|of| format!("{name} = {of}"));
        let options = [
            Some(format!("subtype = {}", self.subtype)),
            named("subtype_opclass", &self.opclass),
            named("collation", &self.collation),
            named("subtype_diff", &self.difference),
            Some(format!("multirange_type_name = {}", self.multirange)),
        ];
        format!("CREATE TYPE {name} AS RANGE ({})", list(options.into_iter().flatten()))
    }
}

impl Function {
    /// The statements that create it. They do not replace one that somebody has created meanwhile.
    pub(super) fn statements(&self) -> Vec<String> {
        let create = match self.definition.strip_prefix("CREATE OR REPLACE ") {
            Some(rest) => format!("CREATE {rest}"),
            None => self.definition.clone(),
        };
        [create].into_iter().chain(comment(&format!("FUNCTION {}", self.signature), self.comment.as_ref())).collect()
    }
}

impl Sequence {
    /// The options after its name in `CREATE`.
    pub(super) fn options(&self) -> String {
        let Self { start, increment, min, max, cache, .. } = self;
        let cycle = if self.cycles { " CYCLE" } else { "" };
        format!("START WITH {start} INCREMENT BY {increment} MINVALUE {min} MAXVALUE {max} CACHE {cache}{cycle}")
    }

    /// The statements that create it, without its owner.
    pub(super) fn statements(&self) -> Vec<String> {
        let unlogged = if self.is_unlogged { "UNLOGGED " } else { "" };
        let create = format!("CREATE {unlogged}SEQUENCE {} AS {} {}", self.name, self.ty, self.options());
        [create].into_iter().chain(comment(&format!("SEQUENCE {}", self.name), self.comment.as_ref())).collect()
    }
}

impl Index {
    /// The statements that create it.
    pub(super) fn statements(&self) -> Vec<String> {
        [self.definition.clone()].into_iter().chain(self.finishing(&self.name)).collect()
    }

    /// The statements for everything that its `CREATE` does not set, for an index of that name.
    pub(super) fn finishing(&self, name: &QualifiedName) -> Vec<String> {
        let target = |(number, target): (&String, &i32)| {
            format!("ALTER INDEX {name} ALTER COLUMN {number} SET STATISTICS {target}")
        };
        let targets = self.statistics.iter().flatten().map(target);
        targets.chain(comment(&format!("INDEX {name}"), self.comment.as_ref())).collect()
    }
}

impl Statistics {
    /// The statements that create them.
    pub(super) fn statements(&self) -> Vec<String> {
        let target = self.target.map(|target| format!("ALTER STATISTICS {} SET STATISTICS {target}", self.name));
        let comment = comment(&format!("STATISTICS {}", self.name), self.comment.as_ref());
        [self.definition.clone()].into_iter().chain(target).chain(comment).collect()
    }
}
