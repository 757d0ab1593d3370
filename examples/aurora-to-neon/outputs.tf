output "writer" {
  description = "The instance that the changes come from."
  value       = neonrepl_aurora_logical_replication.source.writer_instance_identifier
}

output "wal_level" {
  description = "What the writer runs with, as it says itself: `logical`."
  value       = neonrepl_aurora_logical_replication.source.wal_level
}

output "parameter_group" {
  description = "The cluster parameter group that turns logical replication on."
  value       = neonrepl_aurora_logical_replication.source.parameter_group_name
}

output "subscription" {
  description = "The subscription, as `database/name`."
  value       = neonrepl_subscription.playing_with_neon.id
}

output "slot" {
  description = "The replication slot on the publisher."
  value       = neonrepl_subscription.playing_with_neon.slot_name
}

output "unsubscribed_tables" {
  description = "Tables that are published but not subscribed yet: none, when all is well."
  value       = neonrepl_subscription.playing_with_neon.unsubscribed_tables
}

output "indexes" {
  description = "The indexes that were made once the rows were there."
  value       = neonrepl_destination_indexes.playing_with_neon.indexes
}

output "database" {
  description = "Where the application connects to, as `host:port/database`: the side that takes writes."
  value       = "${neonrepl_cutover.playing_with_neon.host}:${neonrepl_cutover.playing_with_neon.port}/${neonrepl_cutover.playing_with_neon.database}"
}

output "write_pause_ms" {
  description = "For how many milliseconds the last switch kept writers waiting."
  value       = neonrepl_cutover.playing_with_neon.write_pause_ms
}
