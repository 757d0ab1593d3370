// SPDX-License-Identifier: MPL-2.0

//! Requests of the query protocol: form-encoded, with structure in the names (`Tags.Tag.1.Key`).

use std::collections::BTreeMap;

/// The parameters of one request, or of one item of a list in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Form(pub(super) BTreeMap<String, String>);

impl Form {
    pub(super) fn parse(body: &str) -> Self {
        let pairs = body.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (decode(k), decode(v))).collect(),
        )
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A name in lower case, as RDS stores identifiers.
    pub(super) fn identifier(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_ascii_lowercase)
    }

    /// The items of `list`, as in `Parameters.Parameter`, in order.
    pub(super) fn items(&self, list: &str) -> Vec<Form> {
        let item = |n: usize| {
            let prefix = format!("{list}.{n}.");
            let fields = self.0.iter().filter_map(|(k, v)| Some((k.strip_prefix(&prefix)?.to_owned(), v.clone())));
            Some(Form(fields.collect())).filter(|form| !form.0.is_empty())
        };
        (1..).map_while(item).collect()
    }

    /// The plain values of `list`, as in `TagKeys.member`.
    pub(super) fn values(&self, list: &str) -> Vec<String> {
        (1..).map_while(|n| self.get(&format!("{list}.{n}")).map(str::to_owned)).collect()
    }

    /// The tags of the request.
    pub(super) fn tags(&self) -> BTreeMap<String, String> {
        let text = |tag: &Form, name: &str| tag.get(name).unwrap_or_default().to_owned();
        self.items("Tags.Tag").iter().map(|tag| (text(tag, "Key"), text(tag, "Value"))).collect()
    }

    /// The values of a filter.
    pub(super) fn filter(&self, name: &str) -> Option<Vec<String>> {
        let filters = self.items("Filters.Filter");
        filters.iter().find(|filter| filter.get("Name") == Some(name)).map(|filter| filter.values("Values.Value"))
    }
}

fn decode(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next().unwrap_or(b'0'), bytes.next().unwrap_or(b'0')];
                let text = std::str::from_utf8(&digits).unwrap_or("00");
                u8::from_str_radix(text, 16).unwrap_or(b'?')
            }
            byte => byte,
        });
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
