// SPDX-License-Identifier: MPL-2.0

//! Whether two printed texts have the same meaning.

use super::printed::{tree, words};

/// Whether two servers mean the same by what they print: it is the same but for space, and for parentheses and casts that are
/// printed otherwise once the text was read again.
pub(super) fn is_alike(one: &str, other: &str) -> bool {
    if one == other {
        return true;
    }
    match (tree(one), tree(other)) {
        (Some(one), Some(other)) => one == other,
        _ => words(one) == words(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts, all of which mean the same.
    const SAME: &[&[&str]] = &[
        &["CHECK ((a + b > 0))", "CHECK (((a + b) > 0))", "CHECK ((a+b > 0))"],
        &["((a + b) * c)", "(a + b) * c"],
        &["(a + (b * c))", "a + b * c"],
        &["((a - b) - c)", "a - b - c"],
        &["((a OR (b AND (NOT c))))", "a OR b AND NOT c"],
        &["(NOT (a = b))", "NOT a = b"],
        &["((a > 0) IS TRUE)", "a > 0 IS TRUE"],
        &["((a || b) = (c || d))", "a || b = c || d"],
        &["((a + 1) || b)", "a + 1 || b"],
        &["(- (a)::integer)", "- a::integer"],
        &["(((a)::text)::character varying(5))", "a::text::character varying(5)"],
        &["((a COLLATE \"C\") || b)", "a COLLATE \"C\" || b"],
        &["((ts AT TIME ZONE 'UTC'::text) > d)", "ts AT TIME ZONE 'UTC'::text > d"],
        &["(a IS DISTINCT FROM (b + 1))", "a IS DISTINCT FROM b + 1"],
        &["lower((name)::text)", "lower(name::text)"],
        &["\nCASE\n    WHEN (a > 0) THEN 1\n    ELSE 2\nEND", "CASE WHEN a > 0 THEN 1 ELSE 2 END"],
        &[
            "CREATE INDEX i ON t USING btree (((a + b)), lower(c) DESC)",
            "CREATE INDEX i ON t USING btree ((a + b), lower(c) DESC)",
        ],
        &[
            "CHECK (((s)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))",
            "CHECK (((s)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text])))",
        ],
        &["(ARRAY[ARRAY['a'::name]])::text[]", "ARRAY[ARRAY[('a'::name)::text]]"],
        &["(a OPERATOR(x.===) (b + 1))", "a OPERATOR(x.===) b + 1"],
        &["(t ~ '^(a|b)$'::text)", "t ~ '^(a|b)$'::text"],
    ];

    /// Pairs, each of which means something else.
    const OTHER: &[(&str, &str)] = &[
        ("((a + b) * c)", "(a + (b * c))"),
        ("((a + b) * c)", "a + b * c"),
        ("(a - (b - c))", "((a - b) - c)"),
        ("((a OR b) AND c)", "(a OR (b AND c))"),
        ("(NOT (a AND b))", "((NOT a) AND b)"),
        ("(- (a + b))", "((- a) + b)"),
        ("((a || b) || c)", "(a || b)"),
        ("((a)::integer + b)", "((a + b))::integer"),
        ("(a = ' (x) ')", "(a = '(x)')"),
        ("(a = 'it''s')", "(a = 'its')"),
        ("\"A b\"", "\"Ab\""),
        ("\"A\"", "a"),
        ("f(a, b)", "f((a, b))"),
        ("f(a)", "fa"),
        ("f()", "f"),
        ("(a > 0)", "(a >= 0)"),
        ("(a IS NULL)", "(a IS NOT NULL)"),
        ("((a < b) = c)", "(a < (b = c))"),
        ("CASE WHEN (a > 0) THEN 1 ELSE 2 END", "CASE WHEN (a > 0) THEN 2 ELSE 1 END"),
        ("(ARRAY['a'::character varying])::text[]", "ARRAY['a'::character varying]"),
        ("ARRAY[]::text[]", "ARRAY[]::integer[]"),
        ("(ARRAY['a'::name])::text[]", "(ARRAY['a'::name])::bytea[]"),
        ("AS $function$ SELECT (a + 1) * 2 $function$", "AS $function$ SELECT a + 1 * 2 $function$"),
        ("AS $function$ a  b $function$", "AS $function$ a b $function$"),
        ("(a[1] + 1)", "a[(1 + 1)]"),
        ("(a).b", "(a.b).c"),
        ("(a ", "a"),
        ("character varying(5)", "character varying(6)"),
    ];

    #[test]
    fn texts_that_mean_the_same_are_alike() {
        for texts in SAME {
            for (one, other) in texts.iter().flat_map(|one| texts.iter().map(move |other| (one, other))) {
                assert!(is_alike(one, other), "{one}\n{other}\n{:?}\n{:?}", tree(one), tree(other));
            }
        }
        println!("{} texts that are alike", SAME.len());
    }

    #[test]
    fn texts_that_mean_something_else_are_not_alike() {
        for (one, other) in OTHER {
            assert!(!is_alike(one, other), "{one}\n{other}\n{:?}", tree(one));
        }
        for (at, texts) in SAME.iter().enumerate() {
            for other in SAME.iter().skip(at + 1) {
                assert!(!is_alike(texts[0], other[0]), "{}\n{}", texts[0], other[0]);
            }
        }
    }

    #[test]
    fn what_is_too_deep_or_does_not_match_is_compared_word_by_word() {
        let deep = |inner: &str| format!("{}{inner}{}", "(".repeat(5000), ")".repeat(5000));
        assert!(is_alike(&deep("a  + b"), &deep("a + b")));
        assert!(!is_alike(&deep("a"), &deep("b")));
        assert!(is_alike("(a  b", "(a b") && !is_alike("(a b", "a b)") && !is_alike("'a", "'b"));
    }
}
