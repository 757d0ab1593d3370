# Whole tables. Each needs a primary key, or another replica identity, for updates and deletes.
resource "neonrepl_publication" "shop" {
  name   = "shop"
  tables = ["public.users", "public.orders"]
}

# Some columns and rows of a table, on Postgres 15 and later. The columns include those of the primary key, and the filter uses
# no others, so that the application can still update and delete rows.
resource "neonrepl_publication" "billing" {
  name     = "billing"
  database = "shop"
  publish  = ["insert", "update", "delete"]
  strict   = true

  table {
    name    = "billing.invoices"
    columns = ["id", "customer_id", "total"]
    where   = "id >= 100000"
  }
}
