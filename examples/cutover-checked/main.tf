# A cutover that only begins if your own conditions hold, in addition to its own checks.

# Both servers come from NEONREPL_PUBLISHER_URL and NEONREPL_SUBSCRIBER_URL.
provider "neonrepl" {}

resource "neonrepl_subscription" "shop" {
  name                  = "shop"
  publications          = ["shop"]
  wait_for_initial_sync = true
}

data "neonrepl_preflight" "shop" {
  publications = ["shop"]
  reverse      = true
}

data "neonrepl_replication_status" "shop" {
  subscription = neonrepl_subscription.shop.name
}

resource "neonrepl_cutover" "shop" {
  subscriptions = [neonrepl_subscription.shop.name]
  active        = var.active

  reverse {}

  lifecycle {
    precondition {
      condition     = var.active == "publisher" || data.neonrepl_replication_status.shop.ok
      error_message = data.neonrepl_replication_status.shop.report
    }

    precondition {
      condition     = var.active == "publisher" || data.neonrepl_preflight.shop.ok
      error_message = data.neonrepl_preflight.shop.report
    }

    precondition {
      condition     = var.active == "publisher" || var.change_ticket != ""
      error_message = "A cutover needs the ticket that allows it: set change_ticket."
    }
  }
}
