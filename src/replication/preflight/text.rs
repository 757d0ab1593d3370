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
    Some(found.mended_by("Make the subscriber's database with the publisher's encoding, best of all UTF8."))
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
        "The publisher's database sorts by {} (LC_CTYPE {}), the subscriber's by {} (LC_CTYPE {}): ORDER BY, comparisons of text, \
         upper and lower case may come out differently there.",
        here.collation, here.ctype, there.collation, there.ctype
    ));
    Some(found.mended_by(
        "Make the subscriber's database with the publisher's locale, or give columns a COLLATE of their own.",
    ))
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
        .says(format!("The subscriber's database does not have extension {name}, which the publisher's has."));
    let quoted = Ident::new(name).map_or_else(|_| name.to_owned(), |name| name.to_string());
    found.mended_by(if facts.available.contains_key(name) {
        format!("If tables, functions or queries need it, on the subscriber: CREATE EXTENSION {quoted};")
    } else {
        "Its server does not offer it: find out what needs it, and what stands in for it.".to_owned()
    })
}
