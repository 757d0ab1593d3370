// SPDX-License-Identifier: MPL-2.0

//! Printed expressions as trees: texts that differ only in spaces and redundant parentheses have the same tree.
//!
//! Servers print parentheses around every operator, in some places more of them than in others. The precedence of
//! operators decides which are redundant, so that `(a + b) * c` and `a + (b * c)` stay different. A cast of an array's
//! elements is printed as a cast of the array at first, and as a cast of each element once the server has read that
//! text again. Keywords are printed in capitals, and names never are.
//!
//! Source: "Operator Precedence" in the Postgres documentation.

/// How deeply parentheses may be nested. Texts beyond this limit are compared word by word.
const DEPTH: usize = 100;
const WORDS: usize = 5000;

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tree {
    /// A name, a keyword, a number or a string.
    Word(String),
    /// Trees side by side, such as a function and its arguments.
    Phrase(Vec<Tree>),
    /// The items between brackets, each with its separator.
    Group(String, Vec<(String, Tree)>),
    /// An operator with two operands; the first is empty if there is only one.
    Operation(String, Box<(Tree, Tree)>),
}

/// The words of a text: a name with its schema, a string and a bracket each count as one.
pub(super) fn words(text: &str) -> Vec<&str> {
    let (mut found, mut rest) = (Vec::new(), text.trim_start());
    while let Some(first) = rest.chars().next() {
        let length = length(rest, first).clamp(first.len_utf8(), rest.len());
        let (word, after) = rest.split_at(length);
        found.push(word);
        rest = after.trim_start();
    }
    found
}

/// The length of the first word in bytes.
fn length(text: &str, first: char) -> usize {
    let is_operator = |c: char| "+-*/<>=~!@#%^&|`?".contains(c);
    match first {
        '\'' => quoted(text, '\''),
        '$' if dollar_quoted(text).is_some() => dollar_quoted(text).unwrap_or_default(),
        ':' => text.find(|c| c != ':' && c != '=').unwrap_or(text.len()).min(2),
        '(' | ')' | '[' | ']' | ',' | ';' => 1,
        _ if is_operator(first) => text.find(|c| !is_operator(c)).unwrap_or(text.len()),
        _ => name(text),
    }
}

/// The length of a quoted text; a doubled quote belongs to it.
fn quoted(text: &str, quote: char) -> usize {
    let mut end = 1;
    while let Some(at) = text[end..].find(quote) {
        end += at + 1;
        if !text[end..].starts_with(quote) {
            return end;
        }
        end += 1;
    }
    text.len()
}

/// The length of a text between `$tag$` and `$tag$`.
fn dollar_quoted(text: &str) -> Option<usize> {
    let tag = &text[..=text[1..].find('$')? + 1];
    let is_tag = tag[1..tag.len() - 1].chars().all(|c| c.is_alphanumeric() || c == '_');
    let end = text[tag.len()..].find(tag).filter(|_| is_tag)?;
    Some(end + 2 * tag.len())
}

/// The length of a name with all parts joined by dots, or of a number.
fn name(text: &str) -> usize {
    let mut end = 0;
    while let Some(c) = text[end..].chars().next() {
        match c {
            '"' => end += quoted(&text[end..], '"'),
            '*' if text[..end].ends_with('.') => end += 1,
            _ if c.is_alphanumeric() || matches!(c, '_' | '$' | '.') => end += c.len_utf8(),
            _ => break,
        }
    }
    end
}

/// The tree of a text. None if brackets do not match, or if it is too large.
pub(super) fn tree(text: &str) -> Option<Tree> {
    let mut reader = Reader { words: words(text), at: 0, depth: 0 };
    let items = if reader.words.len() > WORDS { None } else { reader.items() }?;
    (reader.at == reader.words.len()).then(|| alone(String::new(), items))
}

/// The precedence of an operator, the weakest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    None,
    Or,
    And,
    Not,
    Is,
    Comparison,
    Other,
    Sum,
    Product,
    Power,
    AtTimeZone,
    Collate,
    Sign,
    Cast,
    Above,
}

impl Rank {
    /// The next stronger precedence.
    fn next(self) -> Self {
        let all = [
            Self::Or,
            Self::And,
            Self::Not,
            Self::Is,
            Self::Comparison,
            Self::Other,
            Self::Sum,
            Self::Product,
            Self::Power,
            Self::AtTimeZone,
            Self::Collate,
            Self::Sign,
            Self::Cast,
        ];
        all.into_iter().find(|rank| *rank > self).unwrap_or(Self::Above)
    }

    /// The precedence of a binary operator; none if it is not an operator.
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "OR" => Self::Or,
            "AND" => Self::And,
            "IS" => Self::Is,
            "<" | ">" | "=" | "<=" | ">=" | "<>" => Self::Comparison,
            "+" | "-" => Self::Sum,
            "*" | "/" | "%" => Self::Product,
            "^" => Self::Power,
            "AT" => Self::AtTimeZone,
            "COLLATE" => Self::Collate,
            "::" => Self::Cast,
            "OPERATOR" => Self::Other,
            _ if word.starts_with(|c| "+-*/<>=~!@#%^&|`?".contains(c)) => Self::Other,
            _ => return None,
        })
    }

    /// The precedence of a prefix operator.
    fn before(word: &str) -> Option<Self> {
        match word {
            "NOT" => Some(Self::Not),
            "+" | "-" => Some(Self::Sign),
            "AT" | "COLLATE" | "IS" | "AND" | "OR" | "::" => None,
            word => Self::of(word).map(|_| Self::Other),
        }
    }
}

/// Whether a word separates the items of a group.
fn is_separator(word: &str) -> bool {
    matches!(word, "," | ";" | ":" | ":=" | "FROM" | "FOR" | "AS" | "WHEN" | "THEN" | "ELSE" | "WHERE" | "USING")
}

/// The word that ends a group that begins with this one.
fn end_of(word: &str) -> Option<&'static str> {
    match word {
        "(" => Some(")"),
        "[" => Some("]"),
        "CASE" => Some("END"),
        _ => None,
    }
}

fn is_end(word: &str) -> bool {
    matches!(word, ")" | "]" | "END")
}

struct Reader<'a> {
    words: Vec<&'a str>,
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> &'a str {
        self.words.get(self.at).copied().unwrap_or_default()
    }

    fn take(&mut self) -> &'a str {
        let word = self.peek();
        self.at += 1;
        word
    }

    fn take_if(&mut self, word: &str) -> bool {
        let is_it = self.peek() == word;
        self.at += usize::from(is_it);
        is_it
    }

    /// The items up to the end of their group, or of the text.
    fn items(&mut self) -> Option<Vec<(String, Tree)>> {
        let mut items = Vec::new();
        let mut before = String::new();
        loop {
            items.push((before, self.expression(Rank::None)?));
            if !is_separator(self.peek()) {
                break;
            }
            before = self.take().to_owned();
        }
        let is_empty = items.len() == 1 && items.iter().all(|(_, item)| *item == Tree::Phrase(Vec::new()));
        Some(if is_empty { Vec::new() } else { items })
    }

    /// An expression of operators with at least this precedence.
    fn expression(&mut self, least: Rank) -> Option<Tree> {
        let mut left = match Rank::before(self.peek()) {
            Some(rank) => {
                let operator = self.operator();
                operation(operator, Tree::Phrase(Vec::new()), self.expression(rank.next().min(Rank::Sign))?)
            }
            None => self.phrase()?,
        };
        while let Some(rank) = Rank::of(self.peek()).filter(|rank| *rank >= least) {
            let operator = self.operator();
            left = operation(operator, left, self.expression(rank.next())?);
        }
        Some(left)
    }

    /// An operator, with all of its words.
    fn operator(&mut self) -> String {
        let mut operator = self.take().to_owned();
        let more: &[&str] = match operator.as_str() {
            "IS" => &["NOT", "DISTINCT", "FROM"],
            "AT" => &["TIME", "ZONE", "LOCAL"],
            "OPERATOR" => return operator + &self.named_operator(),
            _ => &[],
        };
        for word in more {
            if self.take_if(word) {
                operator = format!("{operator} {word}");
            }
        }
        operator
    }

    /// The operator after the keyword OPERATOR: with its schema, in parentheses.
    fn named_operator(&mut self) -> String {
        let end = self.words[self.at.min(self.words.len())..].iter().position(|word| *word == ")");
        let until = self.at + end.map_or(0, |end| end + 1);
        let name = self.words.get(self.at..until).unwrap_or_default().concat();
        self.at = until;
        name
    }

    /// Trees side by side.
    fn phrase(&mut self) -> Option<Tree> {
        let mut parts = Vec::new();
        loop {
            let word = self.peek();
            if word.is_empty() || is_end(word) || is_separator(word) || Rank::of(word).is_some() {
                break;
            }
            self.at += 1;
            parts.push(match end_of(word) {
                Some(end) => Tree::Group(word.to_owned(), self.group(end)?),
                None => Tree::Word(word.to_owned()),
            });
        }
        Some(match parts.len() {
            1 => match parts.remove(0) {
                Tree::Group(open, items) => alone(open, items),
                word => word,
            },
            _ => phrase(parts),
        })
    }

    fn group(&mut self, end: &str) -> Option<Vec<(String, Tree)>> {
        self.depth += 1;
        let items = if self.depth > DEPTH { None } else { self.items() };
        self.depth -= 1;
        items.filter(|_| self.take_if(end))
    }
}

/// A group that stands alone: parentheses around a single item are redundant.
fn alone(open: String, mut items: Vec<(String, Tree)>) -> Tree {
    let is_plain = (open == "(" || open.is_empty()) && items.len() == 1;
    match is_plain.then(|| items.remove(0)) {
        Some((_, item)) => item,
        None => Tree::Group(open, items),
    }
}

/// Parts side by side. Parentheses around a name at the beginning are redundant.
fn phrase(mut parts: Vec<Tree>) -> Tree {
    if let Some(first) = parts.first_mut() {
        let name = match first {
            Tree::Group(open, items) if open == "(" => match items.as_slice() {
                [(_, Tree::Word(word))] => Some(Tree::Word(word.clone())),
                _ => None,
            },
            _ => None,
        };
        *first = name.unwrap_or_else(|| first.clone());
    }
    Tree::Phrase(parts)
}

fn operation(operator: String, left: Tree, right: Tree) -> Tree {
    match (operator.as_str(), elements(&left)) {
        ("::", Some(items)) if element_type(&right).is_some() => cast_each(items, &right),
        _ => Tree::Operation(operator, Box::new((left, right))),
    }
}

/// The elements of an `ARRAY[…]`, if it has any.
fn elements(tree: &Tree) -> Option<&[(String, Tree)]> {
    match tree {
        Tree::Phrase(parts) => match parts.as_slice() {
            [Tree::Word(word), Tree::Group(open, items)] if word == "ARRAY" && open == "[" && !items.is_empty() => {
                Some(items)
            }
            _ => None,
        },
        _ => None,
    }
}

/// The element type of an array type.
fn element_type(ty: &Tree) -> Option<Tree> {
    let Tree::Phrase(parts) = ty else { return None };
    match parts.as_slice() {
        [name, Tree::Group(open, items)] if open == "[" && items.is_empty() => Some(name.clone()),
        [name @ .., Tree::Group(open, items)] if open == "[" && items.is_empty() => Some(Tree::Phrase(name.to_vec())),
        _ => None,
    }
}

/// An array whose elements are cast one by one. The elements of an array of arrays are arrays.
fn cast_each(items: &[(String, Tree)], ty: &Tree) -> Tree {
    let of_one = element_type(ty).unwrap_or_else(|| ty.clone());
    let cast = |(before, item): &(String, Tree)| {
        let ty = if elements(item).is_some() { ty } else { &of_one };
        (before.clone(), operation("::".to_owned(), item.clone(), ty.clone()))
    };
    let items = items.iter().map(cast).collect();
    Tree::Phrase(vec![Tree::Word("ARRAY".to_owned()), Tree::Group("[".to_owned(), items)])
}
