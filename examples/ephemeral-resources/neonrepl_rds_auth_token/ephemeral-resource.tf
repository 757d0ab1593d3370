# Ephemeral resources need Terraform 1.10 or OpenTofu 1.11.
ephemeral "neonrepl_rds_auth_token" "shop" {
  host     = "shop.cluster-abc.us-east-2.rds.amazonaws.com"
  username = "app"
}

# Uses a token as the password of another configuration of this provider. For its own servers, set aws_iam_auth instead.
provider "neonrepl" {
  alias = "shop"

  publisher {
    host     = "shop.cluster-abc.us-east-2.rds.amazonaws.com"
    database = "shop"
    username = "app"
    password = ephemeral.neonrepl_rds_auth_token.shop.token
  }
}
