import {
  to = neonrepl_replication_slot.warehouse
  identity = {
    database = "shop"
    name     = "warehouse"
  }
}
