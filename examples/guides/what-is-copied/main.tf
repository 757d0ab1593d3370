resource "neonrepl_destination_schema" "shop" {
  tables = ["users", "orders"]
}

resource "neonrepl_publication" "shop" {
  name   = "shop"
  tables = neonrepl_destination_schema.shop.tables
}

resource "neonrepl_subscription" "shop" {
  name             = "shop"
  publications     = [neonrepl_publication.shop.name]
  refresh_triggers = { shop = neonrepl_publication.shop.fingerprint }
}
