# terraform query -generate-config-out=slots.tf writes a resource and an import block for each.
list "neonrepl_replication_slot" "shop" {
  provider         = neonrepl
  include_resource = true
  limit            = 20

  config {
    database = "shop"
  }
}

# Includes those of subscriptions.
list "neonrepl_replication_slot" "all" {
  provider = neonrepl

  config {
    include_in_use = true
  }
}
