import {
  to = neonrepl_destination_schema.shop
  id = "neondb/shop"
}
