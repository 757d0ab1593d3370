//! Terraform/OpenTofu provider for logical replication from Aurora PostgreSQL, or any Postgres, to Neon.

pub mod aurora;
mod data_sources;
mod functions;
pub mod neon;
pub mod postgres;
pub mod provider;
mod resources;
pub mod tf_provider;
