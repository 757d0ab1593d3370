import {
  to = neonrepl_publication.shop
  identity = {
    database = "shop"
    name     = "shop"
  }
}
