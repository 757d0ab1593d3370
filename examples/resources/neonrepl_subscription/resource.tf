# Connects as the provider does. The apply does not wait for the copy of the tables.
resource "neonrepl_subscription" "shop" {
  name         = "shop"
  publications = [neonrepl_publication.shop.name]

  # If the publication gains or loses tables, the same apply takes that over.
  refresh_triggers = {
    shop = neonrepl_publication.shop.fingerprint
  }
}

# Connects with its own role. The apply waits until every row is copied.
resource "neonrepl_subscription" "billing" {
  name         = "billing"
  publications = [neonrepl_publication.billing.name]
  slot_name    = "billing_to_neon"

  refresh_triggers = {
    billing = neonrepl_publication.billing.fingerprint
  }

  # How the subscriber reaches the publisher, if not as the provider does.
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
