resource "neonrepl_subscription" "reports" {
  name         = "reports"
  publications = ["reports"]

  publisher {
    username    = "replicator"
    password_wo = var.replicator_password
  }

  connection_version = 1
}

variable "replicator_password" {
  type      = string
  ephemeral = true
}
