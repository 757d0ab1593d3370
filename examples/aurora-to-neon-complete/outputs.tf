output "neon_host" {
  description = "The host to switch the application to. An application may use the pooler's."
  value       = neon_project.shop.database_host_pooler
}

output "wal_level" {
  description = "What the writer runs with, as it says itself: `logical`."
  value       = neonrepl_aurora_logical_replication.shop.wal_level
}

output "neon_addresses_as_of" {
  description = "The date of the table of Neon's addresses."
  value       = data.neonrepl_neon_nat_addresses.neon.as_of
}

output "unsubscribed_tables" {
  description = "Tables that are published but not subscribed yet: none, when all is well."
  value       = neonrepl_subscription.shop.unsubscribed_tables
}
