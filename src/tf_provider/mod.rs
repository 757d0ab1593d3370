//! What any Terraform provider needs, whatever it manages.

pub mod log;
pub mod plugin;
#[doc(hidden)] // for the tests, which talk to the built binary as Terraform does
pub mod proto;
