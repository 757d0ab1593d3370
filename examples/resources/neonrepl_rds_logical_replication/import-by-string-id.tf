import {
  to = neonrepl_rds_logical_replication.shop
  id = "shop"
}
