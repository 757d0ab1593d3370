resource "neonrepl_aurora_logical_replication" "shop" {
  cluster_identifier = "shop"

  # Beside rds.logical_replication, which is always set.
  parameters = {
    max_replication_slots = "20"
    max_wal_senders       = "20"
  }

  tags = {
    team = "shop"
  }
}
