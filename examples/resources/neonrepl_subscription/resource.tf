# It connects as the provider does, and copies the tables while the apply goes on.
resource "neonrepl_subscription" "shop" {
  name         = "shop"
  publications = [neonrepl_publication.shop.name]

  # A table that the publication gains or loses is looked for in the same apply.
  refresh_triggers = {
    shop = neonrepl_publication.shop.fingerprint
  }
}

# It connects as a role of its own, and the apply waits until every row is copied.
resource "neonrepl_subscription" "billing" {
  name         = "billing"
  publications = [neonrepl_publication.billing.name]
  slot_name    = "billing_to_neon"

  refresh_triggers = {
    billing = neonrepl_publication.billing.fingerprint
  }

  # How the subscriber reaches the publisher, where that is not how the provider does.
  publisher {
    username    = "replicator"
    password_wo = var.replicator_password

    options = {
      keepalives_idle = "60"
    }
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

resource "neonrepl_publication" "billing" {
  name   = "billing"
  tables = ["public.invoices"]
}

variable "replicator_password" {
  type      = string
  sensitive = true
}
