data "neonrepl_publications" "shop" {}

# A subscription to all of them, which follows what they publish.
resource "neonrepl_subscription" "shop" {
  name             = "shop"
  publications     = data.neonrepl_publications.shop.publications[*].name
  refresh_triggers = { for one in data.neonrepl_publications.shop.publications : one.name => one.fingerprint }
}
