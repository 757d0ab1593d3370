// SPDX-License-Identifier: MPL-2.0

//! Lists of names in messages.

use crate::postgres::QualifiedName;

/// How many names, or lines about them, one message shows.
pub const SHOWN: usize = 10;

/// The first names, and how many more there are.
pub fn list(names: impl IntoIterator<Item = String>) -> String {
    let mut names = names.into_iter();
    let shown = names.by_ref().take(SHOWN).collect::<Vec<_>>().join(", ");
    match names.count() {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The same of tables.
pub fn tables<'a>(tables: impl IntoIterator<Item = &'a QualifiedName>) -> String {
    list(tables.into_iter().map(QualifiedName::to_text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_shown_is_counted() {
        let names = |count: usize| (1..=count).map(|number| number.to_string());
        assert_eq!(list(names(0)), "");
        assert_eq!(list(names(10)), "1, 2, 3, 4, 5, 6, 7, 8, 9, 10");
        assert_eq!(list(names(12)), "1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more");
    }
}
