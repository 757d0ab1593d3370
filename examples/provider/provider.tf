terraform {
  required_providers {
    neonrepl = {
      source = "neonrepl/neonrepl"
    }
  }
}

provider "neonrepl" {
  # The server to replicate from: the writer endpoint of an Aurora cluster.
  publisher {
    host     = "shop.cluster-c9abcdefghij.us-east-2.rds.amazonaws.com"
    database = "shop"
    username = "postgres"
    password = var.aurora_password
  }

  # The server to replicate to. A URL can replace the parts, here or in NEONREPL_SUBSCRIBER_URL.
  subscriber {
    url = var.neon_url
  }

  # Only needed for neonrepl_aurora_logical_replication.
  aws {
    region = "us-east-2"
  }
}

variable "aurora_password" {
  type      = string
  sensitive = true
}

variable "neon_url" {
  type      = string
  sensitive = true
}
