import {
  to = neonrepl_aurora_logical_replication.shop
  id = "shop"
}
