resource "neonrepl_replication_slot" "warehouse" {
  name = "warehouse"
}

# A subscription that reads from it, and does not create its own slot.
resource "neonrepl_subscription" "warehouse" {
  name         = "warehouse"
  publications = ["shop"]
  create_slot  = false
  slot_name    = neonrepl_replication_slot.warehouse.name
}

# For another consumer, on Postgres 17 and later with a copy on the publisher's standbys.
resource "neonrepl_replication_slot" "audit" {
  name     = "audit"
  database = "shop"
  plugin   = "pgoutput"
  failover = true

  timeouts {
    create = "10m"
    delete = "10m"
  }
}
