# Whether the tables could be replicated as they are.
data "neonrepl_preflight" "shop" {
  tables            = ["users", "billing.invoices"]
  subscription_role = "replicator"
}

output "preflight" {
  value = data.neonrepl_preflight.shop.report
}

# Nothing is made while anything stands in the way, and the error says what.
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

# Before a cutover with a way back: whether the roles of both servers may switch, and whether changes can flow back.
data "neonrepl_preflight" "cutover" {
  publications = [neonrepl_publication.shop.name]
  reverse      = true
  reverse_role = "replicator"
}

# A look after every apply that warns, and stops nothing.
check "replication" {
  data "neonrepl_preflight" "everything" {
    publications = [neonrepl_publication.shop.name]
  }

  assert {
    condition     = data.neonrepl_preflight.everything.ok
    error_message = data.neonrepl_preflight.everything.report
  }
}
