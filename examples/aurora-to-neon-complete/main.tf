# All steps, together with the providers of AWS and Neon. The cluster, its tables and the role that Neon connects as
# already exist.

provider "aws" {
  region = var.aws_region
}

# The key comes from NEON_API_KEY.
provider "neon" {}

data "aws_rds_cluster" "shop" {
  cluster_identifier = var.cluster_identifier
}

# Neon's side. A subscriber does not need logical replication itself. The way back reads from Neon, so it does.
resource "neon_project" "shop" {
  name       = "shop"
  region_id  = "aws-${var.aws_region}"
  pg_version = 17

  enable_logical_replication = "yes"

  branch {
    name          = "main"
    database_name = var.database
    role_name     = "owner"
  }
}

provider "neonrepl" {
  publisher {
    host     = data.aws_rds_cluster.shop.endpoint
    port     = data.aws_rds_cluster.shop.port
    database = var.database
    username = var.aurora_username
    password = var.aurora_password
  }

  # The direct connection, not the pooler's. Unknown until the project exists; the first plan does not need it.
  subscriber {
    url = neon_project.shop.connection_uri
  }

  aws {
    region = var.aws_region
  }
}

# Step 1: logical replication on the cluster.
resource "neonrepl_aurora_logical_replication" "shop" {
  cluster_identifier = data.aws_rds_cluster.shop.cluster_identifier
}

# Step 2: let Neon connect. If Neon's addresses change, the plan adds and removes rules.
data "neonrepl_neon_nat_addresses" "neon" {
  region = "aws-${var.aws_region}"
}

resource "aws_vpc_security_group_ingress_rule" "neon" {
  for_each = toset(data.neonrepl_neon_nat_addresses.neon.cidrs)

  description       = "Neon, logical replication"
  security_group_id = var.aurora_security_group_id
  cidr_ipv4         = each.value
  ip_protocol       = "tcp"
  from_port         = data.aws_rds_cluster.shop.port
  to_port           = data.aws_rds_cluster.shop.port
}

# Step 3: choose what is replicated.
resource "neonrepl_publication" "shop" {
  name   = "shop"
  tables = var.tables

  depends_on = [neonrepl_aurora_logical_replication.shop]
}

# Step 4: create the tables, as they are on Aurora.
resource "neonrepl_destination_schema" "shop" {
  publications = [neonrepl_publication.shop.name]
}

# Step 5: copy their rows, and follow every change.
resource "neonrepl_subscription" "shop" {
  name         = "shop"
  publications = [neonrepl_publication.shop.name]

  refresh_triggers = {
    shop = neonrepl_publication.shop.fingerprint
  }

  publisher {
    username    = var.replicator_username
    password_wo = var.replicator_password
  }
  connection_version = var.replicator_password_version

  wait_for_initial_sync = true

  timeouts {
    create = "6h"
  }

  depends_on = [
    aws_vpc_security_group_ingress_rule.neon,
    neonrepl_destination_schema.shop,
  ]
}

# Step 6: create indexes and foreign keys once the rows are copied.
resource "neonrepl_destination_indexes" "shop" {
  publications         = [neonrepl_publication.shop.name]
  subscriptions        = [neonrepl_subscription.shop.name]
  parallel             = 4
  maintenance_work_mem = "1GB"
}

# Step 7: choose which side takes writes: "publisher" until the day, then "subscriber".
resource "neonrepl_cutover" "shop" {
  subscriptions = [neonrepl_subscription.shop.name]
  active        = var.active

  # Aurora reaches Neon as the provider does. Changes flow back, so that the way back loses nothing.
  reverse {}

  depends_on = [neonrepl_destination_indexes.shop]
}

# The application follows.
resource "aws_ssm_parameter" "database_host" {
  name  = "/shop/database-host"
  type  = "String"
  value = neonrepl_cutover.shop.host
}
