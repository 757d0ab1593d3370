# Many databases of one server, moved by one module: each database has a publication, a schema, a subscription and its indexes
# of its own, and one variable says how far all of them go.

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
