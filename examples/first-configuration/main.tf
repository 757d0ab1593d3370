terraform {
  # Provider functions.
  required_version = ">= 1.8"

  required_providers {
    neonrepl = {
      source = "neonrepl/neonrepl"
    }
  }
}

provider "neonrepl" {
  # NEONREPL_PUBLISHER_URL and NEONREPL_SUBSCRIBER_URL are used for what is left out.
  publisher {
    host     = "shop.cluster-c9abcdefghij.us-east-2.rds.amazonaws.com"
    database = "shop"
    username = "postgres"
    password = var.aurora_password
  }

  subscriber {
    url = var.neon_url
  }

  aws {
    region = "us-east-2"
  }
}

# The addresses of Neon that the cluster's security group must let in.
output "neon_addresses" {
  value = provider::neonrepl::neon_nat_cidrs("aws-us-east-2")
}

resource "neonrepl_aurora_logical_replication" "shop" {
  cluster_identifier = "shop"
}

resource "neonrepl_publication" "shop" {
  name       = "shop"
  tables     = ["users", "orders"]
  depends_on = [neonrepl_aurora_logical_replication.shop]
}

resource "neonrepl_destination_schema" "shop" {
  publications = [neonrepl_publication.shop.name]
}

resource "neonrepl_subscription" "shop" {
  name                  = "shop"
  publications          = neonrepl_destination_schema.shop.publications
  refresh_triggers      = { shop = neonrepl_publication.shop.fingerprint }
  wait_for_initial_sync = true
}

variable "aurora_password" {
  type      = string
  sensitive = true
}

variable "neon_url" {
  type      = string
  sensitive = true
}
