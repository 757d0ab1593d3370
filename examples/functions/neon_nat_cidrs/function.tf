# Functions need Terraform 1.8 or OpenTofu 1.7.
output "neon_cidrs" {
  value = provider::neonrepl::neon_nat_cidrs("aws-us-east-2")
}
