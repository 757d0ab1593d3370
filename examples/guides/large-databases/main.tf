# The large table alone, and everything else together: two slots and two workers that do not wait for each other.
resource "neonrepl_publication" "events" {
  name   = "events"
  tables = ["public.events"]
}

resource "neonrepl_publication" "rest" {
  name   = "rest"
  tables = ["public.users", "public.orders"]
}

resource "neonrepl_destination_schema" "all" {
  publications = [neonrepl_publication.events.name, neonrepl_publication.rest.name]
  indexes      = "later"
  foreign_keys = "later"
}

resource "neonrepl_subscription" "events" {
  name                  = "events"
  publications          = [neonrepl_publication.events.name]
  refresh_triggers      = { events = neonrepl_publication.events.fingerprint }
  wait_for_initial_sync = true
  depends_on            = [neonrepl_destination_schema.all]

  timeouts {
    create = "24h"
    update = "24h"
  }
}

resource "neonrepl_subscription" "rest" {
  name                  = "rest"
  publications          = [neonrepl_publication.rest.name]
  refresh_triggers      = { rest = neonrepl_publication.rest.fingerprint }
  wait_for_initial_sync = true
  depends_on            = [neonrepl_destination_schema.all]

  timeouts {
    create = "24h"
    update = "24h"
  }
}

resource "neonrepl_destination_indexes" "all" {
  publications         = neonrepl_destination_schema.all.publications
  subscriptions        = [neonrepl_subscription.events.name, neonrepl_subscription.rest.name]
  parallel             = 4
  maintenance_work_mem = "1GB"

  timeouts {
    create = "48h"
  }
}
