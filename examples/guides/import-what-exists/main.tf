import {
  to = neonrepl_publication.shop
  id = "shop/shop"
}

resource "neonrepl_publication" "shop" {
  name   = "shop"
  tables = ["public.users", "public.orders"]
}

import {
  to = neonrepl_subscription.shop

  identity = {
    database = "neondb"
    name     = "shop"
  }
}

resource "neonrepl_subscription" "shop" {
  name         = "shop"
  publications = ["shop"]

  # The subscription's current connection. The password is not needed.
  publisher {
    host     = "shop.cluster-c9abcdefghij.us-east-2.rds.amazonaws.com"
    database = "shop"
    username = "replicator"
    sslmode  = "require"
  }
}
