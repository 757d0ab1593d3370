resource "neonrepl_publication" "shop" {
  name   = "shop"
  tables = ["users", "orders"]
}

resource "neonrepl_destination_schema" "shop" {
  publications = [neonrepl_publication.shop.name]
}

resource "neonrepl_subscription" "shop" {
  name             = "shop"
  publications     = [neonrepl_publication.shop.name]
  refresh_triggers = { shop = neonrepl_publication.shop.fingerprint }
  depends_on       = [neonrepl_destination_schema.shop]
}

# Once the rows are copied.
resource "neonrepl_destination_indexes" "shop" {
  publications  = [neonrepl_publication.shop.name]
  subscriptions = [neonrepl_subscription.shop.name]
}

# With all attributes: four indexes at a time, with memory for sorting, of tables in another database.
resource "neonrepl_destination_indexes" "archive" {
  tables               = ["public.countries", "public.visits"]
  publisher_database   = "shop"
  database             = "archive"
  subscriptions        = ["archive"]
  parallel             = 4
  maintenance_work_mem = "1GB"
  analyze              = true

  timeouts {
    create = "48h"
  }
}
