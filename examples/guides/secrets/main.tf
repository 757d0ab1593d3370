resource "neonrepl_subscription" "shop" {
  name         = "shop"
  publications = ["shop"]

  publisher {
    username    = "replicator"
    password_wo = var.replicator_password
  }

  # Raise it each time the password changes.
  connection_version = 2
}

variable "replicator_password" {
  type      = string
  ephemeral = true
}
