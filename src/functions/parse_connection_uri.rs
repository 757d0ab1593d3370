// SPDX-License-Identifier: MPL-2.0

//! `parse_connection_uri`: a connection string, taken apart.

use crate::postgres::Conninfo;
use crate::tf_provider::function::{Function, FunctionError, Parameter, Signature};
use crate::tf_provider::schema::Type;
use crate::tf_provider::value::Value;

/// The parts that have an attribute of their own: the attribute, and libpq's keyword.
pub(super) const PARTS: [(&str, &str); 6] = [
    ("host", "host"),
    ("port", "port"),
    ("database", "dbname"),
    ("username", "user"),
    ("password", "password"),
    ("sslmode", "sslmode"),
];

/// The function.
pub(super) struct ParseConnectionUri;

impl Function for ParseConnectionUri {
    fn name(&self) -> &'static str {
        "parse_connection_uri"
    }

    fn signature(&self) -> Signature {
        Signature {
            summary: "The parts of a connection URI",
            description: "Splits a connection URI of libpq, such as \
                          `postgresql://user:password@host:5432/database?sslmode=require`, or keyword/value text \
                          (`host=… port=…`), into its parts. The result has `host`, `port` (5432 if none is given), \
                          `database`, `username`, `password` and `sslmode`, null if absent, and in `options` every \
                          other keyword. A keyword that libpq does not know is an error. Percent-encoding is \
                          decoded. The function `conninfo` does the opposite.",
            parameters: vec![Parameter::new(
                "uri",
                Type::String,
                "A connection URI, with one host. The result is sensitive if it is.",
            )],
            variadic: None,
            returns: Type::object([
                ("host", Type::String),
                ("port", Type::Number),
                ("database", Type::String),
                ("username", Type::String),
                ("password", Type::String),
                ("sslmode", Type::String),
                ("options", Type::map(Type::String)),
            ]),
        }
    }

    fn call(&self, arguments: Vec<Value>) -> Result<Value, FunctionError> {
        let uri = arguments.first().and_then(Value::as_str).unwrap_or_default();
        let conninfo = Conninfo::parse(uri).map_err(|error| FunctionError::argument(0, format!("{error}.")))?;
        let port = port(&conninfo).map_err(|wrong| FunctionError::argument(0, wrong))?;
        let text = |keyword: &str| conninfo.get(keyword).map_or(Value::Null, Value::from);
        let part = |(attribute, keyword): (&str, &str)| match keyword {
            "port" => (attribute.to_owned(), Value::from(i64::from(port))),
            _ => (attribute.to_owned(), text(keyword)),
        };
        let is_other = |keyword: &str| PARTS.iter().all(|(_, part)| *part != keyword);
        let others = conninfo.iter().filter(|(keyword, _)| is_other(keyword));
        let options = others.map(|(keyword, value)| (keyword.to_owned(), Value::from(value))).collect();
        let parts = PARTS.into_iter().map(part).chain([("options".to_owned(), Value::Map(options))]);
        Ok(Value::Map(parts.collect()))
    }
}

/// The port of the one host.
fn port(conninfo: &Conninfo) -> Result<u16, &'static str> {
    if conninfo.get("host").is_some_and(|host| host.contains(',')) {
        return Err("The connection string names several hosts. Give one.");
    }
    let port = conninfo.get("port").unwrap_or("5432").parse().ok().filter(|port| *port != 0);
    port.ok_or("The port of the connection string is not a number from 1 to 65535.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(uri: &str) -> Result<Value, FunctionError> {
        ParseConnectionUri.call(vec![uri.into()])
    }

    #[test]
    fn every_part_has_its_place() {
        let parsed =
            parse("postgresql://o%27neil:p%40ss@db.example:6000/shop?sslmode=require&keepalives_idle=60").unwrap();
        for (name, value) in [
            ("host", "db.example".into()),
            ("port", 6000.into()),
            ("database", "shop".into()),
            ("username", "o'neil".into()),
            ("password", "p@ss".into()),
            ("sslmode", "require".into()),
            ("options", Value::Map([("keepalives_idle".to_owned(), "60".into())].into())),
        ] {
            assert_eq!(parsed.get(name), Some(&value), "{name}");
        }
    }

    #[test]
    fn what_is_absent_is_null() {
        let parsed = parse("postgresql://db.example").unwrap();
        assert_eq!(parsed.get("port"), Some(&5432.into()));
        for name in ["database", "username", "password", "sslmode"] {
            assert_eq!(parsed.get(name), Some(&Value::Null), "{name}");
        }
        assert_eq!(parsed.get("options"), Some(&Value::Map([].into())));
    }

    #[test]
    fn what_cannot_be_read_is_not_repeated() {
        for uri in [
            "postgresql://u:hunter2@h:x/d",
            "postgresql://u:hunter2@[::1",
            "hunter2",
            "postgresql://u:hunter2@a,b/d",
            "postgresql://u:x/hunter2@h/d",
            "postgresql://u:x?hunter2=y@h/d",
            "postgresql://h/d?password=x&hunter2=y",
            "postgresql://u:hunter2@h/d?sslmod=require",
        ] {
            let error = parse(uri).unwrap_err();
            assert_eq!(error.argument, Some(0), "{uri}");
            assert!(!error.text.contains("hunter2"), "{}", error.text);
        }
    }
}
