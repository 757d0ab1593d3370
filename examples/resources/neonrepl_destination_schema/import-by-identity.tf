import {
  to = neonrepl_destination_schema.shop
  identity = {
    database = "neondb"
    name     = "shop"
  }
}
