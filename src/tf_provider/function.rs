// SPDX-License-Identifier: MPL-2.0

//! Provider functions: pure, called in expressions as `provider::neonrepl::name(…)`.

use super::schema::Type;
use super::value::Value;

/// One function. Pure: it may be called at any time, without a configured provider.
pub trait Function: Send + Sync {
    /// Its name in an expression.
    fn name(&self) -> &'static str;

    /// Its parameters, result and documentation.
    fn signature(&self) -> Signature;

    /// The result for these arguments, which have the types of the parameters.
    ///
    /// # Errors
    /// When the function has no result for an argument.
    fn call(&self, arguments: Vec<Value>) -> Result<Value, FunctionError>;
}

/// The signature of a function.
#[derive(Clone, Debug)]
pub struct Signature {
    /// One line.
    pub summary: &'static str,
    /// Markdown.
    pub description: &'static str,
    /// The parameters, in order.
    pub parameters: Vec<Parameter>,
    /// A last parameter that takes any number of arguments.
    pub variadic: Option<Parameter>,
    /// The type of the result.
    pub returns: Type,
}

/// One parameter of a function.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its name, for messages and docs.
    pub name: &'static str,
    /// The type of its argument.
    pub ty: Type,
    /// Markdown.
    pub description: &'static str,
    /// Whether the function accepts null; otherwise Terraform and OpenTofu refuse it.
    pub allow_null: bool,
}

impl Parameter {
    /// A parameter that must not be null.
    pub fn new(name: &'static str, ty: Type, description: &'static str) -> Self {
        Self { name, ty, description, allow_null: false }
    }
}

/// Why a function has no result (`FunctionError` of the protocol).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionError {
    /// What is wrong and what would be right.
    pub text: String,
    /// The position of the argument it is about.
    pub argument: Option<usize>,
}

impl FunctionError {
    /// An error about the argument at this position.
    pub fn argument(position: usize, text: impl Into<String>) -> Self {
        Self { text: text.into(), argument: Some(position) }
    }
}
