import {
  to = neonrepl_cutover.shop
  id = "neondb/shop"
}
