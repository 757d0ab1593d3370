resource "neonrepl_rds_logical_replication" "shop" {
  instance_identifier = "shop"
}

# Another instance has a provider configuration of its own: its publisher block leads there, so that the server's wal_level is
# verified, and its slots are looked for before a destroy.
provider "neonrepl" {
  alias = "mall"

  publisher {
    url = var.mall_url
  }
}

# With the name of a group, further parameters, and a reboot in your own maintenance window.
resource "neonrepl_rds_logical_replication" "mall" {
  provider = neonrepl.mall

  instance_identifier  = "mall"
  parameter_group_name = "mall-logical"
  reboot               = "never"

  # In addition to rds.logical_replication, which is always set.
  parameters = {
    max_replication_slots = "20"
    max_wal_senders       = "20"
  }

  tags = {
    team = "mall"
  }

  timeouts {
    create = "90m"
  }
}

variable "mall_url" {
  type      = string
  sensitive = true
}
