import {
  to = neonrepl_rds_logical_replication.shop
  identity = {
    instance_identifier = "shop"
  }
}
