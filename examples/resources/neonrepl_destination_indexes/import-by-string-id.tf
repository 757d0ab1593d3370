import {
  to = neonrepl_destination_indexes.shop
  id = "neondb/shop"
}
