// SPDX-License-Identifier: MPL-2.0

//! The place of something in a configuration.

use std::fmt;

/// A path from the root of a block to one of its parts, such as `table[0].where`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttributePath(Vec<Step>);

/// One step of a path (`AttributePath.Step` of the protocol).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// An attribute or a nested block, by name.
    Attribute(String),
    /// An element of a map, by key.
    Key(String),
    /// An element of a list, by position.
    Index(i64),
    /// An element of a set. The protocol cannot say which one: on the wire the path ends before it.
    Element,
}

impl AttributePath {
    /// The path of an attribute of the root block.
    pub fn of(name: &str) -> Self {
        Self::default().attribute(name)
    }

    /// This path and then an attribute.
    #[must_use]
    pub fn attribute(self, name: &str) -> Self {
        self.then(Step::Attribute(name.to_owned()))
    }

    /// This path and then an element of a map.
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        self.then(Step::Key(key.to_owned()))
    }

    /// This path and then an element of a list.
    #[must_use]
    pub fn index(self, index: usize) -> Self {
        self.then(Step::Index(i64::try_from(index).unwrap_or(i64::MAX)))
    }

    /// This path and then some element of a set.
    #[must_use]
    pub fn element(self) -> Self {
        self.then(Step::Element)
    }

    /// This path and then one more step.
    #[must_use]
    pub fn then(mut self, step: Step) -> Self {
        self.0.push(step);
        self
    }

    /// This path with another one in front, so that a caller can add its own position.
    #[must_use]
    pub fn below(self, outer: &Self) -> Self {
        let mut steps = outer.0.clone();
        steps.extend(self.0);
        Self(steps)
    }

    /// Whether this is the root itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The steps, outermost first.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }
}

impl fmt::Display for AttributePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Attribute(name) if at == 0 => f.write_str(name)?,
                Step::Attribute(name) => write!(f, ".{name}")?,
                Step::Key(key) => write!(f, "[{key:?}]")?,
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Element => f.write_str("[*]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_a_reference_is_written() {
        let path = AttributePath::of("table").index(0).attribute("where");
        assert_eq!(path.to_string(), "table[0].where");
        assert_eq!(AttributePath::of("options").key("a b").to_string(), "options[\"a b\"]");
    }

    #[test]
    fn an_outer_path_goes_in_front() {
        let inner = AttributePath::of("where").below(&AttributePath::of("table").index(1));
        assert_eq!(inner.to_string(), "table[1].where");
    }
}
