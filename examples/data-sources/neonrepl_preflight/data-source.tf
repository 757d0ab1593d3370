# Checks whether the tables can be replicated as they are.
data "neonrepl_preflight" "shop" {
  tables            = ["users", "billing.invoices"]
  subscription_role = "replicator"
}

output "preflight" {
  value = data.neonrepl_preflight.shop.report
}

# Creates nothing as long as something stands in the way, and the error says what.
resource "neonrepl_publication" "shop" {
  name   = "shop"
  tables = data.neonrepl_preflight.shop.tables

  lifecycle {
    precondition {
      condition     = data.neonrepl_preflight.shop.ok
      error_message = data.neonrepl_preflight.shop.report
    }
  }
}

resource "neonrepl_subscription" "shop" {
  name         = "shop"
  publications = [neonrepl_publication.shop.name]
}

# Before a cutover with a way back: checks whether the roles of both servers may switch, and whether changes can flow back.
data "neonrepl_preflight" "cutover" {
  publications = [neonrepl_publication.shop.name]
  reverse      = true
  reverse_role = "replicator"
}

# Warns after every plan and apply, and stops nothing. A data source within the check itself would be read again by every apply,
# so that no plan would be without changes.
check "replication" {
  assert {
    condition     = data.neonrepl_preflight.cutover.ok
    error_message = data.neonrepl_preflight.cutover.report
  }
}
