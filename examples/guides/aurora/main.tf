resource "neonrepl_aurora_logical_replication" "source" {
  cluster_identifier = "shop"
}
