provider "neonrepl" {
  # RDS and Aurora: the bundle of certificate authorities that AWS publishes.
  publisher {
    host        = "shop.cluster-c9abcdefghij.us-east-2.rds.amazonaws.com"
    database    = "shop"
    username    = "postgres"
    password    = var.aurora_password
    sslmode     = "verify-full"
    sslrootcert = "/etc/ssl/rds-global-bundle.pem"
  }

  # Neon: verify-full with the authorities of this machine is the default.
  subscriber {
    url = var.neon_url
  }
}
