resource "neonrepl_subscription" "shop" {
  name         = "shop"
  publications = ["shop"]
}

# How far it is now, and what is wrong with it if something is.
data "neonrepl_replication_status" "shop" {
  subscription = neonrepl_subscription.shop.name
}

output "replication" {
  value = data.neonrepl_replication_status.shop.report
}

# Waits until everything that was written before is on the subscriber; whatever depends on it comes after that.
data "neonrepl_replication_status" "caught_up" {
  subscription = neonrepl_subscription.shop.name
  wait_until   = "caught_up"
  timeout      = "10m"

  lifecycle {
    postcondition {
      condition     = length(flatten(self.subscriptions[*].schema_drift)) == 0
      error_message = "The tables of both sides differ: ${self.report}"
    }
  }
}

# Warns after every plan and apply, and stops nothing. A data source within the check itself would be read again by every apply,
# so that no plan would be without changes.
check "replication" {
  assert {
    condition     = data.neonrepl_replication_status.shop.ok
    error_message = data.neonrepl_replication_status.shop.report
  }
}
