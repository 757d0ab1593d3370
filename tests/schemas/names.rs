// SPDX-License-Identifier: MPL-2.0

//! Names that nobody should choose, but somebody always does.

use crate::chance::Chance;
use crate::common::postgres::quote;

/// Reserved words of SQL.
const KEYWORDS: [&str; 10] = ["select", "table", "user", "order", "group", "default", "check", "end", "all", "primary"];

/// Gives names, each only once.
#[derive(Default)]
pub(crate) struct Names(usize);

impl Names {
    /// A quoted name. It contains a number, so that no two are the same.
    pub(crate) fn next(&mut self, chance: &mut Chance, what: &str) -> String {
        self.0 += 1;
        let number = self.0;
        let name = match chance.below(16) {
            0 => format!("{what} with space {number}"),
            1 => format!("{}{number}", what.to_uppercase()),
            2 => format!("{what}.dot{number}"),
            3 => format!("say \"{what}\" {number}"),
            4 => format!("o'{what}{number}"),
            5 => format!("naïve-日本-{what}{number}"),
            6 => format!("{}{number}", chance.pick(&KEYWORDS)),
            7 => long(what, number),
            8 => format!("{what}\\back{number}"),
            9 => format!("${what}$%{{}}{number}"),
            10 => format!("{number}{what}-- "),
            _ => format!("{what}{number}"),
        };
        quote(&name)
    }

    /// A keyword as a name, for objects with their own namespace, such as the columns of a table.
    pub(crate) fn column(&mut self, chance: &mut Chance, taken: &[String]) -> String {
        let keyword: &&str = chance.pick(&KEYWORDS);
        let keyword = quote(keyword);
        if chance.one_in(8) && !taken.contains(&keyword) { keyword } else { self.next(chance, "c") }
    }
}

/// The longest possible name: 63 bytes, with the number first and then letters of two bytes.
fn long(what: &str, number: usize) -> String {
    let mut name = format!("{what}{number}_");
    while name.len() + 2 <= 63 {
        name.push('é');
    }
    while name.len() < 63 {
        name.push('x');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_whole_and_never_twice() {
        let (mut names, mut chance) = (Names::default(), Chance::new(1));
        let mut all: Vec<_> = (0..500).map(|_| names.next(&mut chance, "t")).collect();
        assert!(all.iter().all(|name| name.replace("\"\"", "\"").len() <= 65));
        assert!(all.iter().any(|name| name.len() == 65), "none is of 63 bytes");
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 500);
    }
}
