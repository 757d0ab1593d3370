provider "neonrepl" {
  alias = "shop"

  publisher {
    url = var.shop_publisher_url
  }

  subscriber {
    url = var.shop_subscriber_url
  }
}

provider "neonrepl" {
  alias = "billing"

  publisher {
    url = var.billing_publisher_url
  }

  subscriber {
    url = var.billing_subscriber_url
  }
}

resource "neonrepl_publication" "shop" {
  provider = neonrepl.shop

  name   = "shop"
  tables = ["public.users", "public.orders"]
}

resource "neonrepl_publication" "billing" {
  provider = neonrepl.billing

  name   = "billing"
  tables = ["public.invoices"]
}
