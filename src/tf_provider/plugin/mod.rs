//! A provider as a child process of Terraform or OpenTofu.
