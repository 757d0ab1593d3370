import {
  to = neonrepl_cutover.shop
  identity = {
    database = "neondb"
    name     = "shop"
  }
}
