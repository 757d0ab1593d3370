data "neonrepl_publications" "shop" {}

# A subscription to all of them, which follows what they publish.
resource "neonrepl_subscription" "shop" {
  name             = "shop"
  publications     = data.neonrepl_publications.shop.publications[*].name
  refresh_triggers = { for one in data.neonrepl_publications.shop.publications : one.name => one.fingerprint }
}

# Manages all of them as they are. Nothing changes on the server.
locals {
  publications = { for one in data.neonrepl_publications.shop.publications : one.name => one }
}

import {
  for_each = local.publications
  to       = neonrepl_publication.all[each.key]

  identity = {
    database = data.neonrepl_publications.shop.database
    name     = each.key
  }
}

resource "neonrepl_publication" "all" {
  for_each = local.publications

  name                       = each.value.name
  owner                      = each.value.owner
  all_tables                 = each.value.all_tables
  tables                     = each.value.tables
  schemas                    = each.value.schemas
  publish                    = each.value.publish
  publish_via_partition_root = each.value.publish_via_partition_root
  publish_generated_columns  = each.value.publish_generated_columns

  dynamic "table" {
    for_each = each.value.table

    content {
      name    = table.value.name
      columns = table.value.columns
      where   = table.value.where
    }
  }
}
