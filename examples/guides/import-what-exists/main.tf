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

  # As the subscription connects today; the password is not needed for it.
  publisher {
    host     = "shop.cluster-c9abcdefghij.us-east-2.rds.amazonaws.com"
    database = "shop"
    username = "replicator"
    sslmode  = "require"
  }
}
