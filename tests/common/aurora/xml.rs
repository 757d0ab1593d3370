// SPDX-License-Identifier: MPL-2.0

//! Answers of the query protocol.

use std::borrow::Cow;

use quick_xml::Writer;
use quick_xml::events::BytesText;

/// One element.
#[derive(Debug)]
pub(super) enum Element {
    Text(&'static str, String),
    Node(Cow<'static, str>, Vec<Element>),
}

impl Element {
    /// Its name.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Text(name, _) => name,
            Self::Node(name, _) => name,
        }
    }
}

/// An element with text.
pub(super) fn text(name: &'static str, value: impl ToString) -> Element {
    Element::Text(name, value.to_string())
}

/// An element with child elements.
pub(super) fn node(name: impl Into<Cow<'static, str>>, children: Vec<Element>) -> Element {
    Element::Node(name.into(), children)
}

/// A list.
pub(super) fn list<T>(name: &'static str, items: impl IntoIterator<Item = T>, item: impl Fn(T) -> Element) -> Element {
    Element::Node(name.into(), items.into_iter().map(item).collect())
}

/// A document in RDS's namespace: the element `name` with these children.
pub(super) fn document(name: &str, children: &[Element]) -> String {
    let mut writer = Writer::new(Vec::new());
    let root = writer.create_element(name).with_attribute(("xmlns", "http://rds.amazonaws.com/doc/2014-10-31/"));
    let written = root.write_inner_content(|writer| children.iter().try_for_each(|child| write(writer, child)));
    written.expect("writing to memory");
    String::from_utf8(writer.into_inner()).expect("text")
}

fn write(writer: &mut Writer<Vec<u8>>, element: &Element) -> std::io::Result<()> {
    match element {
        Element::Text(name, text) => writer.create_element(*name).write_text_content(BytesText::new(text)).map(drop),
        Element::Node(name, children) => writer
            .create_element(name.as_ref())
            .write_inner_content(|writer| children.iter().try_for_each(|child| write(writer, child)))
            .map(drop),
    }
}
