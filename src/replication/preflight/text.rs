// SPDX-License-Identifier: MPL-2.0

//! How both databases store and sort text, and which extensions they have.

use super::facts::{Facts, Side};
use crate::postgres::Ident;
use crate::replication::{Finding, Place, Severity};

pub(super) fn find(facts: &Facts) -> Vec<Finding> {
    let (publisher, subscriber) = (&facts.publisher, &facts.subscriber);
    let mut found: Vec<_> =
        encoding(publisher, subscriber).into_iter().chain(collation(publisher, subscriber)).collect();
    found.extend(extensions(facts));
    found
}

fn encoding(publisher: &Side, subscriber: &Side) -> Option<Finding> {
    let (here, there) = (publisher.server.encoding.as_str(), subscriber.server.encoding.as_str());
    if here == there || here.is_empty() || there.is_empty() {
        return None;
    }
    let found = Finding::new(Severity::Warning, "encoding", Place::Both).says(format!(
        "The publisher's database is encoded in {here}, the subscriber's in {there}: text is converted, and a character that {there} \
         does not have stops replication."
    ));
    Some(found.mended_by("Create the subscriber's database with the publisher's encoding, ideally UTF8."))
}

fn collation(publisher: &Side, subscriber: &Side) -> Option<Finding> {
    // Linux and Postgres spell one locale in several ways.
    let plain = |text: &str| text.to_lowercase().replace(['-', '_'], "");
    let (here, there) = (&publisher.server, &subscriber.server);
    let is_alike = plain(&here.collation) == plain(&there.collation) && plain(&here.ctype) == plain(&there.ctype);
    if is_alike || here.collation.is_empty() || there.collation.is_empty() {
        return None;
    }
    let found = Finding::new(Severity::Warning, "collation", Place::Both).says(format!(
        "The publisher's database sorts by {} (LC_CTYPE {}), the subscriber's by {} (LC_CTYPE {}): ORDER BY, text \
         comparisons, and upper and lower case may give different results there.",
        here.collation, here.ctype, there.collation, there.ctype
    ));
    Some(found.mended_by("Create the subscriber's database with the publisher's locale, or set a COLLATE on columns."))
}

fn extensions(facts: &Facts) -> Vec<Finding> {
    let there = &facts.subscriber.extensions;
    let found = facts.publisher.extensions.iter().filter_map(|(name, version)| match there.get(name) {
        None => Some(missing(facts, name)),
        Some(other) if other != version => {
            Some(Finding::new(Severity::Info, "extension_version", Place::Both).about(name).says(format!(
                "Extension {name} has version {version} on the publisher and {other} on the subscriber."
            )))
        }
        Some(_) => None,
    });
    found.collect()
}

fn missing(facts: &Facts, name: &str) -> Finding {
    let found = Finding::new(Severity::Warning, "extension_missing", Place::Subscriber)
        .about(name)
        .says(format!("The subscriber's database lacks extension {name}, which the publisher's has."));
    let quoted = Ident::new(name).map_or_else(|_| name.to_owned(), |name| name.to_string());
    found.mended_by(if facts.available.contains_key(name) {
        format!("If tables, functions or queries need it, on the subscriber: CREATE EXTENSION {quoted};")
    } else {
        "Its server does not offer the extension: find out what needs it, and what can replace it.".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::super::example::{self, shown};
    use super::*;
    use expect_test::{Expect, expect};

    fn check(change: impl Fn(&mut Facts), expected: &Expect) {
        let mut facts = example::facts();
        change(&mut facts);
        expected.assert_eq(&shown(&find(&facts)));
    }

    #[test]
    fn what_stores_and_sorts_text_is_compared() {
        let other = |facts: &mut Facts| {
            let server = &mut facts.subscriber.server;
            server.encoding = "LATIN1".to_owned();
            server.collation = "icu en-US".to_owned();
            let extensions = [("postgis", "3.5"), ("hstore", "1.8"), ("citext", "1.6"), ("plpgsql", "1.0")];
            let all = extensions.map(|(name, version)| (name.to_owned(), version.to_owned()));
            facts.publisher.extensions = all.clone().into();
            facts.subscriber.extensions = [all[3].clone(), ("citext".to_owned(), "1.8".to_owned())].into();
            facts.available = [all[1].clone()].into();
        };
        check(
            other,
            &expect![[r#"
                encoding: warning on both: The publisher's database is encoded in UTF8, the subscriber's in LATIN1: text is converted, and a character that LATIN1 does not have stops replication. Create the subscriber's database with the publisher's encoding, ideally UTF8.
                collation: warning on both: The publisher's database sorts by libc C.UTF-8 (LC_CTYPE C.UTF-8), the subscriber's by icu en-US (LC_CTYPE C.UTF-8): ORDER BY, text comparisons, and upper and lower case may give different results there. Create the subscriber's database with the publisher's locale, or set a COLLATE on columns.
                extension_version: info on both, citext: Extension citext has version 1.6 on the publisher and 1.8 on the subscriber.
                extension_missing: warning on subscriber, hstore: The subscriber's database lacks extension hstore, which the publisher's has. If tables, functions or queries need it, on the subscriber: CREATE EXTENSION "hstore";
                extension_missing: warning on subscriber, postgis: The subscriber's database lacks extension postgis, which the publisher's has. Its server does not offer the extension: find out what needs it, and what can replace it.
            "#]],
        );
        // The same locale, spelled in two ways.
        check(|facts| facts.subscriber.server.collation = "libc c.utf8".to_owned(), &expect![[r#""#]]);
    }
}
