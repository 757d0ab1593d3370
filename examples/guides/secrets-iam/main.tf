provider "neonrepl" {
  publisher {
    host         = "shop.cluster-c9abcdefghij.us-east-2.rds.amazonaws.com"
    database     = "shop"
    username     = "terraform"
    aws_iam_auth = true
    sslmode      = "verify-full"
    sslrootcert  = "/etc/ssl/rds-global-bundle.pem"
  }

  aws {
    region = "us-east-2"
  }
}
