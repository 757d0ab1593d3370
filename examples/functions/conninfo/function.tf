# Functions need Terraform 1.8 or OpenTofu 1.7.
variable "password" {
  type      = string
  sensitive = true
}

output "conninfo" {
  sensitive = true
  value = provider::neonrepl::conninfo({
    host     = "shop.cluster-abc.us-east-2.rds.amazonaws.com"
    database = "shop"
    username = "replicator"
    password = var.password
    sslmode  = "require"
    options  = { keepalives_idle = 60 }
  })
}
