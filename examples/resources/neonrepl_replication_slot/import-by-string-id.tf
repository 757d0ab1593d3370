import {
  to = neonrepl_replication_slot.warehouse
  id = "shop/warehouse"
}
