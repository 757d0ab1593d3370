moved {
  from = postgresql_publication.shop
  to   = neonrepl_publication.shop
}

resource "neonrepl_publication" "shop" {
  name    = "shop"
  tables  = ["public.users", "public.orders"]
  publish = ["insert", "update", "delete"]
}

moved {
  from = postgresql_replication_slot.shop
  to   = neonrepl_replication_slot.shop
}

resource "neonrepl_replication_slot" "shop" {
  name   = "shop"
  plugin = "pgoutput"
}

moved {
  from = postgresql_subscription.shop
  to   = neonrepl_subscription.shop
}

resource "neonrepl_subscription" "shop" {
  name         = "shop"
  publications = ["shop"]
  create_slot  = false

  # The parts of `conninfo`, without the password.
  publisher {
    host     = "shop.cluster-c9abcdefghij.us-east-2.rds.amazonaws.com"
    port     = 5432
    database = "shop"
    username = "replicator"
    sslmode  = "require"
  }
}
