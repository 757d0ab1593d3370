resource "neonrepl_subscription" "shop" {
  name         = "shop"
  publications = [neonrepl_publication.shop.name]

  # A table that the publication gains or loses is looked for in the same apply.
  refresh_triggers = {
    shop = neonrepl_publication.shop.fingerprint
  }

  # How the subscriber reaches the publisher, where that is not how the provider does.
  publisher {
    username    = "replicator"
    password_wo = var.replicator_password
  }

  # Raise it to send another password.
  connection_version = 1

  wait_for_initial_sync = true

  timeouts {
    create = "2h"
  }
}

resource "neonrepl_publication" "shop" {
  name   = "shop"
  tables = ["public.users", "public.orders"]
}

variable "replicator_password" {
  type      = string
  sensitive = true
}
