locals {
  databases = {
    for key, given in var.databases : key => {
      publisher    = coalesce(given.publisher, key)
      subscriber   = coalesce(given.subscriber, key)
      subscription = "${var.name}_${key}"
      tables = given.tables != null ? given.tables : toset([
        for table in data.neonrepl_tables.all[key].tables : table.qualified_name
        if table.has_primary_key && !table.unlogged && table.partition_of == null
      ])
    }
  }

  # What the phase includes, in addition to the copy.
  indexed = var.phase == "copy" ? {} : local.databases
  ready   = contains(["ready", "moved"], var.phase) ? local.databases : {}
}

# The tables that can be published. A table without a primary key needs a replica identity first; then list it in `tables`.
data "neonrepl_tables" "all" {
  for_each = { for key, given in var.databases : key => given if given.tables == null }

  database = coalesce(each.value.publisher, each.key)
  schemas  = each.value.schemas
}

resource "neonrepl_publication" "this" {
  for_each = local.databases

  name     = var.name
  database = each.value.publisher
  tables   = each.value.tables
}

resource "neonrepl_destination_schema" "this" {
  for_each = local.databases

  publications       = [neonrepl_publication.this[each.key].name]
  publisher_database = each.value.publisher
  database           = each.value.subscriber
  changes            = "follow"
}

resource "neonrepl_subscription" "this" {
  for_each = local.databases

  name                  = each.value.subscription
  database              = each.value.subscriber
  publications          = neonrepl_destination_schema.this[each.key].publications
  refresh_triggers      = { tables = neonrepl_publication.this[each.key].fingerprint }
  wait_for_initial_sync = true

  publisher {
    database = each.value.publisher
  }
}

# Once the rows are copied: indexes, foreign keys, statistics.
resource "neonrepl_destination_indexes" "this" {
  for_each = local.indexed

  publications       = [neonrepl_publication.this[each.key].name]
  publisher_database = each.value.publisher
  database           = each.value.subscriber
  subscriptions      = [neonrepl_subscription.this[each.key].name]
}

# Which side takes writes: `ready` prepares the switch, `moved` makes it, and `ready` again moves back.
resource "neonrepl_cutover" "this" {
  for_each = local.ready

  subscriptions       = [neonrepl_subscription.this[each.key].name]
  active              = var.phase == "moved" ? "subscriber" : "publisher"
  publisher_database  = each.value.publisher
  subscriber_database = each.value.subscriber

  reverse {
    database = each.value.subscriber
  }

  depends_on = [neonrepl_destination_indexes.this]
}
