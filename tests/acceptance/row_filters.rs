// SPDX-License-Identifier: MPL-2.0

//! Hostile row filters: if our check accepts a text, Postgres refuses it, or reads it as the condition of that one
//! table.

use neonrepl::postgres::publication::{self, Publication, RowFilter, TableSpec, Target};
use neonrepl::postgres::{QualifiedName, ServerVersion};

use crate::catalog::ident;
use crate::common::postgres::{self as servers, Major, Role};

/// The pieces of texts: the ends and beginnings of all tokens of Postgres's scanner.
const PIECES: &[&str] = &[
    "id > 1",
    "b = ",
    "case when id > 1 then b else",
    " end",
    "'x'",
    "'",
    "''",
    "'\\'",
    "\\",
    "\\'",
    "e'",
    "E'",
    "é",
    "\u{a0}e",
    "_e",
    "a$e",
    "b'1'",
    "X'",
    "N'",
    "n",
    "U&'",
    "U&\"",
    "\"",
    "\"id\"",
    "uescape '!'",
    "$$",
    "$a$",
    "$",
    "$1",
    "1",
    "1e",
    "0x1",
    "1.",
    "--",
    "-",
    "/*",
    "*/",
    "/",
    "*",
    "\n",
    "\r",
    "\x0b",
    "\x0c",
    "\t",
    "(",
    ")",
    "()",
    "[",
    "]",
    ";",
    ",",
    " or ",
    " and true",
    " || ",
    "::text",
    "), TABLE secret WHERE (true",
    "), TABLE secret WHERE (b = '' -- '",
    "), secret WHERE (b = 'x'",
    ") WITH (publish = 'insert'",
    ", TABLE secret",
];

/// Each would pass a check that reads tokens differently from Postgres.
const ATTACKS: &[&str] = &[
    "b = case when id > 1 then b else'\\' end), TABLE secret WHERE (b = '' -- '",
    "b = case when id > 1 then b \u{a0}e'\\' end), TABLE secret WHERE (b = '' -- '",
    "id > 1 -- \r), TABLE secret WHERE (id > 1",
    "b = E'x'\n'\\'' or b = ' '), TABLE secret WHERE (id > 1",
    "id > 1 /* /* */), TABLE secret WHERE (id > 1 -- */",
    "id > 1) WITH (publish = 'insert'",
    "id > 1), TABLES IN SCHEMA other, TABLE secret WHERE (true",
    "id > 1); CREATE TABLE made (id int); --",
];

/// Numbers that look random and are the same in every run.
struct Noise(u64);

impl Noise {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end).unwrap()).unwrap()
    }

    fn filter(&mut self) -> String {
        let mut text = ["", "id > 1 ", "b = ", "b = 'x' or "][self.below(4)].to_owned();
        for _ in 0..=self.below(9) {
            text.push_str(PIECES[self.below(PIECES.len())]);
            text.push_str(["", "", " "][self.below(3)]);
        }
        text
    }
}

/// The contents of the catalogs: publications and their options, their tables and schemas, and all relations.
const PUBLISHED: &str = "SELECT concat_ws(' ',
    (SELECT string_agg(concat(pubname, puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot), ',') FROM pg_publication),
    (SELECT string_agg(prrelid::regclass::text, ',') FROM pg_publication_rel),
    (SELECT count(*) FROM pg_publication_namespace), (SELECT count(*) FROM pg_class))";

fn statement(filter: &str, version: ServerVersion) -> Option<String> {
    let filter = RowFilter::new(filter).ok()?;
    let table = QualifiedName::parse("t").unwrap();
    let spec = TableSpec { columns: None, filter: Some(filter) };
    let target = Target::Lists { tables: [(table, spec)].into(), schemas: [].into() };
    let statements = publication::diff(None, Some(&Publication::new(ident("p"), target)), version).unwrap();
    assert_eq!(statements.len(), 1);
    Some(statements[0].to_string())
}

async fn hostile(major: Major) {
    let database = servers::shared(major).database("filters").await;
    database.sql("CREATE SCHEMA other; CREATE TABLE t (id int, b text); CREATE TABLE secret (id int, b text)").await;
    let client = database.connect_as(&Role::superuser()).await.unwrap();
    let version = ServerVersion::major_only(u32::from(major.number()));
    let published = async || client.query_one(PUBLISHED, &[]).await.unwrap().get::<_, String>(0);
    let relations = published().await.rsplit(' ').next().unwrap().to_owned();
    let mut noise = Noise(0x9E37_79B9_7F4A_7C15);
    let filters = ATTACKS.iter().map(|attack| (*attack).to_owned()).chain((0..12_000).map(|_| noise.filter()));
    let (mut let_through, mut taken) = (0, 0);
    for filter in filters {
        let Some(statement) = statement(&filter, version) else { continue };
        let_through += 1;
        client.batch_execute("BEGIN").await.unwrap();
        if client.execute_typed(&statement, &[]).await.is_ok() {
            taken += 1;
            let there = published().await;
            assert_eq!(there, format!("pfttttf t 0 {relations}"), "{filter:?}");
        }
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    eprintln!("{let_through} filters were let through on {major:?}, and Postgres took {taken}");
    assert!(let_through > 1000 && taken > 50, "{let_through} were let through, {taken} taken");
}

#[tokio::test]
async fn hostile_filters_publish_one_table_on_15() {
    hostile(Major::V15).await;
}

#[tokio::test]
async fn hostile_filters_publish_one_table_on_18() {
    hostile(Major::V18).await;
}
