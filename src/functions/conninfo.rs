// SPDX-License-Identifier: MPL-2.0

//! `conninfo`: the parts of a connection as one text.

use std::collections::BTreeMap;

use super::parse_connection_uri::PARTS;
use crate::postgres::{Conninfo as Text, keywords};
use crate::tf_provider::function::{Function, FunctionError, Parameter, Signature};
use crate::tf_provider::schema::Type;
use crate::tf_provider::value::Value;

/// The function.
pub(super) struct Conninfo;

impl Function for Conninfo {
    fn name(&self) -> &'static str {
        "conninfo"
    }

    fn signature(&self) -> Signature {
        Signature {
            summary: "The parts of a connection as keyword/value text",
            description: "Writes the parts of a connection as the keyword/value text of libpq (`host=… port=…`), \
                          quoting values as needed: the form that `psql`, `CREATE SUBSCRIPTION` and the `url` of \
                          the provider's blocks accept. The function `parse_connection_uri` does the opposite.",
            parameters: vec![Parameter::new(
                "connection",
                Type::Dynamic,
                "An object with any of `host`, `port`, `database`, `username`, `password`, `sslmode`, and in \
                 `options` a map of further libpq keywords. Null and absent attributes are left out, and a keyword \
                 that libpq does not know is an error. The result is sensitive if the object is.",
            )],
            variadic: None,
            returns: Type::String,
        }
    }

    fn call(&self, arguments: Vec<Value>) -> Result<Value, FunctionError> {
        let text = arguments.into_iter().next().map(written).transpose();
        let text = text.map_err(|wrong| FunctionError::argument(0, wrong))?;
        Ok(Value::from(text.unwrap_or_default().to_secret().expose()))
    }
}

fn written(connection: Value) -> Result<Text, String> {
    let mut text = Text::new();
    for (attribute, value) in entries("The connection", connection)? {
        match PARTS.iter().find(|(name, _)| *name == attribute) {
            Some((_, keyword)) => text.set(*keyword, part(&attribute, &value)?),
            None if attribute == "options" => {
                for (keyword, value) in entries("options", value)? {
                    keywords::check_known(&keyword).map_err(|unknown| format!("{unknown}."))?;
                    text.set(keyword.clone(), plain(&keyword, &value)?);
                }
            }
            None => return Err(unknown(&attribute)),
        }
    }
    Ok(text)
}

fn unknown(attribute: &str) -> String {
    let parts: Vec<_> = PARTS.iter().map(|(name, _)| *name).collect();
    format!(
        "A connection has no {attribute:?}. It has {} and options; other libpq keywords belong in options.",
        parts.join(", ")
    )
}

/// The attributes that are not null.
fn entries(what: &str, value: Value) -> Result<BTreeMap<String, Value>, String> {
    match undressed(value) {
        Value::Null => Ok(BTreeMap::new()),
        Value::Map(entries) => {
            let entries = entries.into_iter().map(|(name, value)| (name, undressed(value)));
            Ok(entries.filter(|(_, value)| !value.is_null()).collect())
        }
        other => Err(format!("{what} must be an object, not {}.", other.kind())),
    }
}

/// A value without the type that a dynamic place adds.
fn undressed(value: Value) -> Value {
    match value {
        Value::Dynamic(_, inner) => *inner,
        other => other,
    }
}

fn part(name: &str, value: &Value) -> Result<String, String> {
    let text = plain(name, value)?;
    let is_port = |text: &str| text.parse::<u16>().is_ok_and(|port| port != 0);
    match name {
        "port" if !is_port(&text) => Err("port must be a whole number from 1 to 65535.".to_owned()),
        _ => Ok(text),
    }
}

fn plain(name: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) if text.contains('\0') => Err(format!("{name} holds a NUL character.")),
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(value) => Ok(value.to_string()),
        other => Err(format!("{name} must be a string, a number or a bool, not {}.", other.kind())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(items: &[(&str, Value)]) -> Value {
        Value::Map(items.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    }

    fn call(value: Value) -> Result<Value, FunctionError> {
        Conninfo.call(vec![value])
    }

    #[test]
    fn parts_become_keywords_and_are_quoted() {
        let options = object(&[("keepalives_idle", 60.into()), ("options", "-c search_path=a".into())]);
        let connection = object(&[
            ("host", "db.example".into()),
            ("port", 6000.into()),
            ("database", "shop".into()),
            ("username", Value::Null),
            ("password", "it's".into()),
            ("options", options),
        ]);
        let expected =
            r"dbname=shop host=db.example keepalives_idle=60 options='-c search_path=a' password='it\'s' port=6000";
        let ty = Type::object([("host", Type::String)]);
        assert_eq!(call(Value::Dynamic(Box::new(ty), Box::new(connection.clone()))), Ok(expected.into()));
        assert_eq!(call(connection), Ok(expected.into()));
        assert_eq!(call(object(&[])), Ok("".into()));
    }

    #[test]
    fn what_is_read_is_written_the_same() {
        use super::super::parse_connection_uri::ParseConnectionUri;
        let uri = "postgresql://u:p%20q@[::1]:6000/d?sslmode=verify-full&application_name=x";
        let parsed = ParseConnectionUri.call(vec![uri.into()]).unwrap();
        let text = call(parsed).unwrap();
        assert_eq!(Text::parse(text.as_str().unwrap()), Text::parse(uri));
    }

    #[test]
    fn what_is_no_connection_is_refused_by_its_name() {
        let refused = |value: Value| call(value).unwrap_err().text;
        assert!(
            refused(object(&[("user", "u".into())])).starts_with("A connection has no \"user\". It has host, port")
        );
        assert_eq!(refused("host=h".into()), "The connection must be an object, not a string.");
        assert_eq!(refused(object(&[("options", "x".into())])), "options must be an object, not a string.");
        let typo = object(&[("options", object(&[("sslmod", "verify-full".into())]))]);
        assert_eq!(refused(typo), "sslmod is not a keyword of libpq (did you mean sslmode?).");
        assert_eq!(refused(object(&[("port", 0.into())])), "port must be a whole number from 1 to 65535.");
        let list = Value::List(vec!["hunter2".into()]);
        assert_eq!(refused(object(&[("host", list)])), "host must be a string, a number or a bool, not a list.");
    }
}
