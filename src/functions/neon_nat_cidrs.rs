// SPDX-License-Identifier: MPL-2.0

//! `neon_nat_cidrs`: the addresses that Neon's connections come from, known while planning.

use crate::neon::nat_addresses;
use crate::tf_provider::function::{Function, FunctionError, Parameter, Signature};
use crate::tf_provider::schema::Type;
use crate::tf_provider::value::Value;

/// The function.
pub(super) struct NeonNatCidrs;

impl Function for NeonNatCidrs {
    fn name(&self) -> &'static str {
        "neon_nat_cidrs"
    }

    fn signature(&self) -> Signature {
        Signature {
            summary: "The CIDR blocks of Neon's NAT gateways in a region",
            description: "The addresses that Neon's connections to a publisher come from, each as a `/32`, for the rules of a \
                          security group. The result is known while planning, so it works in `for_each`. The table is part \
                          of the provider; the data source `neonrepl_neon_nat_addresses` also says its date.",
            parameters: vec![Parameter::new("region", Type::String, "A Neon region id, such as `aws-us-east-2`.")],
            variadic: None,
            returns: Type::list(Type::String),
        }
    }

    fn call(&self, arguments: Vec<Value>) -> Result<Value, FunctionError> {
        let id = arguments.first().and_then(Value::as_str).unwrap_or_default();
        let region =
            nat_addresses::region(id).ok_or_else(|| FunctionError::argument(0, nat_addresses::unknown_region(id)))?;
        Ok(Value::List(region.cidrs().map(Value::from).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_has_cidrs() {
        let Ok(Value::List(cidrs)) = NeonNatCidrs.call(vec!["aws-eu-west-2".into()]) else { panic!("no list") };
        assert_eq!(cidrs.len(), 3);
        assert!(cidrs.iter().all(|cidr| cidr.as_str().is_some_and(|cidr| cidr.ends_with("/32"))));
    }

    #[test]
    fn an_unknown_region_is_the_first_arguments_fault() {
        let error = NeonNatCidrs.call(vec!["mars".into()]).unwrap_err();
        assert_eq!(error.argument, Some(0));
        assert!(error.text.contains("aws-us-east-2"), "{}", error.text);
    }
}
