// SPDX-License-Identifier: MPL-2.0

//! `quote_identifier`: a name quoted for SQL.

use crate::postgres::Ident;
use crate::tf_provider::function::{Function, FunctionError, Parameter, Signature};
use crate::tf_provider::schema::Type;
use crate::tf_provider::value::Value;

/// The function.
pub(super) struct QuoteIdentifier;

impl Function for QuoteIdentifier {
    fn name(&self) -> &'static str {
        "quote_identifier"
    }

    fn signature(&self) -> Signature {
        Signature {
            summary: "A name as a quoted SQL identifier",
            description: "Writes a name, such as that of a table, a column or a role, in double quotes, with each \
                          double quote in it doubled, so that it is safe in a statement. Upper case is kept. A name \
                          of more than 63 bytes is an error, because Postgres would cut it off.",
            parameters: vec![Parameter::new("name", Type::String, "The name, exactly as in the catalog.")],
            variadic: None,
            returns: Type::String,
        }
    }

    fn call(&self, arguments: Vec<Value>) -> Result<Value, FunctionError> {
        let name = arguments.first().and_then(Value::as_str).unwrap_or_default();
        let name = Ident::new(name).map_err(|error| FunctionError::argument(0, format!("{error}.")))?;
        Ok(Value::from(name.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_name() {
        for (name, quoted) in [("orders", "\"orders\""), ("My \"Table\".x", "\"My \"\"Table\"\".x\"")] {
            assert_eq!(QuoteIdentifier.call(vec![name.into()]), Ok(quoted.into()));
        }
    }

    #[test]
    fn what_is_no_name_is_the_arguments_fault() {
        for name in [String::new(), "n".repeat(64), "a\0b".to_owned()] {
            assert_eq!(QuoteIdentifier.call(vec![name.into()]).unwrap_err().argument, Some(0));
        }
    }
}
