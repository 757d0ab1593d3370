# terraform query -generate-config-out=identities.tf writes a resource and an import block for each.
list "neonrepl_replica_identity" "shop" {
  provider         = neonrepl
  include_resource = true

  config {
    database = "shop"
  }
}
