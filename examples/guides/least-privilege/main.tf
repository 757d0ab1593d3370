provider "neonrepl" {
  # Owns the publication and the tables.
  publisher {
    host     = "shop.cluster-c9abcdefghij.us-east-2.rds.amazonaws.com"
    database = "shop"
    username = "migrator"
    password = var.migrator_password
  }

  # Owns the subscription and the tables on the other side.
  subscriber {
    host     = "ep-cool-darkness-123456.us-east-2.aws.neon.tech"
    database = "neondb"
    username = "neondb_owner"
    password = var.neon_password
  }
}

resource "neonrepl_publication" "shop" {
  name   = "shop"
  tables = ["public.users", "public.orders"]
}

resource "neonrepl_subscription" "shop" {
  name         = "shop"
  publications = [neonrepl_publication.shop.name]

  # This role may only read the tables and the WAL.
  publisher {
    username    = "replicator"
    password_wo = var.replicator_password
  }

  connection_version = 1
}
