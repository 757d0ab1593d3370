//! Terraform/OpenTofu provider for logical replication from Aurora PostgreSQL, or any Postgres, to Neon.

pub mod aurora;
pub mod data_sources;
pub mod functions;
pub mod neon;
pub mod postgres;
pub mod provider;
pub mod resources;
pub mod tf_provider;
