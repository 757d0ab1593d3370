resource "neonrepl_rds_logical_replication" "shop" {
  instance_identifier = "shop"

  # Beside rds.logical_replication, which is always set.
  parameters = {
    max_replication_slots = "20"
    max_wal_senders       = "20"
  }

  tags = {
    team = "shop"
  }
}
