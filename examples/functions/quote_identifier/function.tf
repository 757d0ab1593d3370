# Functions need Terraform 1.8 or OpenTofu 1.7.
output "statement" {
  value = "ALTER TABLE ${provider::neonrepl::quote_identifier("Order items")} REPLICA IDENTITY FULL"
}
