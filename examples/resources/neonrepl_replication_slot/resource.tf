resource "neonrepl_replication_slot" "warehouse" {
  name = "warehouse"
}

# A subscription that reads from it, and does not make a slot of its own.
resource "neonrepl_subscription" "warehouse" {
  name         = "warehouse"
  publications = ["shop"]
  create_slot  = false
  slot_name    = neonrepl_replication_slot.warehouse.name
}
