# One provider configuration for each pair of servers.
provider "neonrepl" {
  alias    = "pairs"
  for_each = var.pairs

  publisher {
    host     = each.value.publisher
    database = each.value.database
    username = each.value.username
    password = var.passwords[each.key].publisher
  }

  subscriber {
    host     = each.value.subscriber
    database = each.value.database
    username = each.value.username
    password = var.passwords[each.key].subscriber
  }
}

# To take a pair down, set replicated = false first, and remove its entry afterwards: destroying an object still needs its
# provider configuration.
locals {
  replicated = { for key, pair in var.pairs : key => pair if pair.replicated }
}

resource "neonrepl_publication" "all" {
  for_each = local.replicated
  provider = neonrepl.pairs[each.key]

  name   = each.key
  tables = each.value.tables
}

resource "neonrepl_destination_schema" "all" {
  for_each = local.replicated
  provider = neonrepl.pairs[each.key]

  publications = [neonrepl_publication.all[each.key].name]
}

resource "neonrepl_subscription" "all" {
  for_each = local.replicated
  provider = neonrepl.pairs[each.key]

  name             = each.key
  publications     = neonrepl_destination_schema.all[each.key].publications
  refresh_triggers = { tables = neonrepl_publication.all[each.key].fingerprint }
}
