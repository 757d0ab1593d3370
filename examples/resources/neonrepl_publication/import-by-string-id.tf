import {
  to = neonrepl_publication.shop
  id = "shop/shop"
}
