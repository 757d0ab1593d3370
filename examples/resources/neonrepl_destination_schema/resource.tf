resource "neonrepl_publication" "shop" {
  name   = "shop"
  tables = ["users", "orders"]
}

# The same tables on the subscriber, before the subscription copies their rows.
resource "neonrepl_destination_schema" "shop" {
  publications = [neonrepl_publication.shop.name]
}

resource "neonrepl_subscription" "shop" {
  name             = "shop"
  publications     = [neonrepl_publication.shop.name]
  refresh_triggers = { shop = neonrepl_publication.shop.fingerprint }
  depends_on       = [neonrepl_destination_schema.shop]
}

# Indexes, foreign keys and extended statistics, to be created once the rows are copied.
output "statements_for_later" {
  value = neonrepl_destination_schema.shop.later[*].statement
}

# With all attributes: other tables, in another database, with everything at once.
resource "neonrepl_destination_schema" "archive" {
  tables             = ["public.countries", "public.visits"]
  publisher_database = "shop"
  database           = "archive"
  indexes            = "with_tables"
  foreign_keys       = "never"
  functions          = "never"
  changes            = "report"
  drop_on_destroy    = true

  timeouts {
    create = "30m"
  }
}
