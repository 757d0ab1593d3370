//! Whether two servers mean the same by what they print.

use super::model::Definition;

/// Whether two servers mean the same by what they print: versions print parentheses otherwise.
pub(super) fn is_alike(publisher: &Definition, subscriber: &Definition, one: &str, other: &str) -> bool {
    let is_one_version = publisher.version.major() == subscriber.version.major();
    one == other || !is_one_version && squashed(one) == squashed(other)
}

/// An expression without what versions print differently: space and parentheses outside of quotes.
fn squashed(text: &str) -> String {
    let mut quote = None;
    let is_kept = |c: &char| {
        match quote {
            Some(open) if open == *c => quote = None,
            None if matches!(c, '\'' | '"') => quote = Some(*c),
            _ => {}
        }
        quote.is_some() || !(c.is_whitespace() || matches!(c, '(' | ')'))
    };
    text.chars().filter(is_kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_may_print_parentheses_and_space_otherwise() {
        assert_eq!(squashed("((a + b) > 0)"), squashed("(a+b > 0)"));
        assert_ne!(squashed("(a = ' (x) ')"), squashed("(a = '(x)')"));
        assert_ne!(squashed("\"A b\""), squashed("\"Ab\""));
    }
}
