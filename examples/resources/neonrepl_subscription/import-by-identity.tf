import {
  to = neonrepl_subscription.shop
  identity = {
    database = "neondb"
    name     = "shop"
  }
}
