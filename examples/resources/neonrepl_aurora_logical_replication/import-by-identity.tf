import {
  to = neonrepl_aurora_logical_replication.shop
  identity = {
    cluster_identifier = "shop"
  }
}
