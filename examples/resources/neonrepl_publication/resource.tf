resource "neonrepl_publication" "shop" {
  name   = "shop"
  tables = ["public.users", "public.orders"]

  # Some columns and rows of a table, on Postgres 15 and later.
  table {
    name    = "billing.invoices"
    columns = ["id", "customer_id", "total"]
    where   = "total > 0"
  }
}
