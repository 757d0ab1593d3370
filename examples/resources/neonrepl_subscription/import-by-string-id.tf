import {
  to = neonrepl_subscription.shop
  id = "neondb/shop"
}
