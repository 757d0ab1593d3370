resource "neonrepl_subscription" "shop" {
  name         = "shop"
  publications = ["shop"]

  publisher {
    username    = "replicator"
    password_wo = var.replicator_password
  }

  # Raise it whenever the password has changed.
  connection_version = 2
}

variable "replicator_password" {
  type      = string
  ephemeral = true
}
