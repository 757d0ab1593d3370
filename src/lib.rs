//! Terraform/OpenTofu provider for logical replication from Aurora PostgreSQL, or any Postgres, to Neon.

pub mod postgres;
