# Functions need Terraform 1.8 or OpenTofu 1.7.
variable "uri" {
  type      = string
  sensitive = true
}

locals {
  server = provider::neonrepl::parse_connection_uri(var.uri)
}

output "host" {
  value = nonsensitive(local.server.host)
}
