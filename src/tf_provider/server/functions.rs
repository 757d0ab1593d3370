// SPDX-License-Identifier: MPL-2.0

//! The RPC that calls a function.

use super::{Inner, wire};
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::function::FunctionError;
use crate::tf_provider::proto::tfplugin5 as pb;
use crate::tf_provider::provider::Provider;

pub(super) fn call<P: Provider>(
    inner: &Inner<P>,
    request: &pb::call_function::Request,
) -> Result<pb::call_function::Response> {
    let entry = inner.registry().function(&request.name)?;
    let fixed = entry.signature.parameters.iter().map(Some);
    let parameters = fixed.chain(std::iter::repeat(entry.signature.variadic.as_ref()));
    if request.arguments.len() < entry.signature.parameters.len() {
        return Err(Error::new("there are fewer arguments than parameters"));
    }
    let arguments = request.arguments.iter().zip(parameters).enumerate().map(|(at, (argument, parameter))| {
        let wrong = |text: String| FunctionError::argument(at, text);
        let parameter = parameter.ok_or_else(|| wrong("there are more arguments than parameters".to_owned()))?;
        let argument = wire::decode(&parameter.ty, Some(argument));
        argument.map_err(|error| wrong(error.attribute(parameter.name).to_string()))
    });
    match arguments.collect::<Result<_, _>>().and_then(|arguments| entry.function.call(arguments)) {
        Ok(value) => {
            let result = wire::encode(&entry.signature.returns, &value)?;
            Ok(pb::call_function::Response { result: Some(result), error: None })
        }
        Err(error) => Ok(pb::call_function::Response { result: None, error: Some(function_error(error)) }),
    }
}

fn function_error(error: FunctionError) -> pb::FunctionError {
    let function_argument = error.argument.and_then(|at| i64::try_from(at).ok());
    pb::FunctionError { text: error.text, function_argument }
}
