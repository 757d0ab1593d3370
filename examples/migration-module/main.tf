# One module moves many databases of one server. Each database has its own publication, schema, subscription and indexes, and one
# variable says how far all of them go.

provider "neonrepl" {
  publisher {
    url = var.publisher_url
  }

  subscriber {
    url = var.subscriber_url
  }
}

module "migration" {
  source = "./module"

  databases = var.databases
  phase     = var.phase
}
