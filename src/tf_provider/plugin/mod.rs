//! A provider as a child process of Terraform or OpenTofu.
mod lifecycle;
pub use lifecycle::Lifecycle;
