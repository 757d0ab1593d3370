# For a table without a primary key: all columns together identify a row.
resource "neonrepl_replica_identity" "events" {
  table    = "public.events"
  identity = "full"
}

# By the columns of a unique index, which must be NOT NULL.
resource "neonrepl_replica_identity" "visits" {
  table    = "public.visits"
  identity = "index"
  index    = "visits_token_key"

  database     = "shop"
  skip_destroy = true

  timeouts {
    create = "15m"
  }
}

# The references make sure that the tables are not published before.
resource "neonrepl_publication" "shop" {
  name = "shop"
  tables = [
    neonrepl_replica_identity.events.table,
    neonrepl_replica_identity.visits.table,
  ]
}
