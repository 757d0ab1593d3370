# terraform query -generate-config-out=publications.tf writes a resource and an import block for each.
list "neonrepl_publication" "shop" {
  provider         = neonrepl
  include_resource = true

  config {
    database = "shop"
  }
}
