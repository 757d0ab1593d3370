# From an Aurora cluster without logical replication to rows that flow to Neon, in one apply.

provider "neonrepl" {
  publisher {
    host     = var.publisher_host
    port     = var.publisher_port
    database = var.publisher_database
    username = var.publisher_username
    password = var.publisher_password
  }

  subscriber {
    host     = var.subscriber_host
    port     = var.subscriber_port
    database = var.subscriber_database
    username = var.subscriber_username
    password = var.subscriber_password
  }

  aws {
    region       = var.aws_region
    endpoint_url = var.aws_endpoint_url
    access_key   = var.aws_access_key
    secret_key   = var.aws_secret_key
  }
}

# A parameter group with rds.logical_replication = 1, the writer rebooted, and the result verified.
# The plan names the instance that it reboots.
resource "neonrepl_aurora_logical_replication" "source" {
  cluster_identifier = var.cluster_identifier

  tags = {
    purpose = "replication to Neon"
  }
}

resource "neonrepl_publication" "playing_with_neon" {
  name   = "playing_with_neon"
  tables = ["public.playing_with_neon"]

  depends_on = [neonrepl_aurora_logical_replication.source]
}

# The table on Neon, as it is on Aurora.
resource "neonrepl_destination_schema" "playing_with_neon" {
  publications = [neonrepl_publication.playing_with_neon.name]
}

# Copies the existing rows, then follows every change. Apply ends when the copy is complete.
resource "neonrepl_subscription" "playing_with_neon" {
  name                  = "playing_with_neon"
  publications          = [neonrepl_publication.playing_with_neon.name]
  wait_for_initial_sync = true

  # If you add a table to the publication, the same apply subscribes to it.
  refresh_triggers = {
    playing_with_neon = neonrepl_publication.playing_with_neon.fingerprint
  }

  depends_on = [neonrepl_destination_schema.playing_with_neon]
}

# Indexes and foreign keys, created once the rows are copied: the copy is several times as fast without them.
resource "neonrepl_destination_indexes" "playing_with_neon" {
  publications  = [neonrepl_publication.playing_with_neon.name]
  subscriptions = [neonrepl_subscription.playing_with_neon.name]
}

# Which side takes writes: "publisher" until the day, then "subscriber". Changing it is the cutover, and the way back.
resource "neonrepl_cutover" "playing_with_neon" {
  subscriptions = [neonrepl_subscription.playing_with_neon.name]
  active        = var.active

  # Changes flow back afterwards, so that the way back loses nothing.
  reverse {}

  depends_on = [neonrepl_destination_indexes.playing_with_neon]
}
