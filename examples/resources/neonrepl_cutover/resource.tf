# A minimal one: the subscription's tables move, and changes flow back afterwards.
resource "neonrepl_cutover" "shop" {
  subscriptions = [neonrepl_subscription.shop.name]
  active        = var.active

  reverse {}
}

# "publisher" until the day, then "subscriber".
variable "active" {
  type    = string
  default = "publisher"
}

# With all attributes.
resource "neonrepl_cutover" "mall" {
  subscriptions       = [neonrepl_subscription.mall.name]
  active              = "publisher"
  publisher_database  = "mall"
  subscriber_database = "mall"
  writes              = "fence"
  guard               = true
  unpublished_writes  = "block"
  max_lag_bytes       = 1048576
  end_blockers_after  = "30s"
  compare             = "checksums"
  compare_max_rows    = 100000
  sequence_margin     = 100
  sequences           = ["public.ticket_numbers"]
  forward             = "drop"
  message             = "writes have moved to Neon: see https://wiki.example/mall"
  open_on_destroy     = false
  connection_version  = 1

  # How Aurora reaches Neon, if not as the provider does.
  reverse {
    host        = "ep-cool-name-123456.us-east-2.aws.neon.tech"
    port        = 5432
    database    = "mall"
    username    = "replicator"
    password_wo = var.replicator_password
    sslmode     = "require"

    options = {
      keepalives_idle = "60"
    }
  }

  timeouts {
    create = "30m"
    update = "15m"
  }
}

resource "neonrepl_subscription" "shop" {
  name         = "shop"
  publications = ["shop"]
}

resource "neonrepl_subscription" "mall" {
  name         = "mall"
  database     = "mall"
  publications = ["mall"]

  publisher {
    database = "mall"
  }
}

variable "replicator_password" {
  type      = string
  sensitive = true
}
