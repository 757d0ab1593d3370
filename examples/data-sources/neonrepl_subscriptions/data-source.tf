data "neonrepl_subscriptions" "warehouse" {
  database = "warehouse"
}

output "disabled_subscriptions" {
  value = [for one in data.neonrepl_subscriptions.warehouse.subscriptions : one.name if !one.enabled]
}

# Manages all of them as they are. Nothing changes on the servers, and the passwords stay where they are.
locals {
  subscriptions = { for one in data.neonrepl_subscriptions.warehouse.subscriptions : one.name => one }
}

import {
  for_each = local.subscriptions
  to       = neonrepl_subscription.all[each.key]

  identity = {
    database = data.neonrepl_subscriptions.warehouse.database
    name     = each.key
  }
}

resource "neonrepl_subscription" "all" {
  for_each = local.subscriptions

  database           = data.neonrepl_subscriptions.warehouse.database
  name               = each.value.name
  owner              = each.value.owner
  enabled            = each.value.enabled
  publications       = each.value.publications
  slot_name          = each.value.slot_name
  binary             = each.value.binary
  streaming          = each.value.streaming
  synchronous_commit = each.value.synchronous_commit
  two_phase          = each.value.two_phase
  disable_on_error   = each.value.disable_on_error
  password_required  = each.value.password_required
  run_as_owner       = each.value.run_as_owner
  origin             = each.value.origin
  failover           = each.value.failover

  # Null if it is the same as in the provider's publisher block.
  dynamic "publisher" {
    for_each = each.value.publisher[*]

    content {
      host     = publisher.value.host
      port     = publisher.value.port
      database = publisher.value.database
      username = publisher.value.username
      sslmode  = publisher.value.sslmode
      options  = publisher.value.options
    }
  }
}
