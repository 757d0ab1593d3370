import {
  to = neonrepl_destination_indexes.shop
  identity = {
    database = "neondb"
    name     = "shop"
  }
}
