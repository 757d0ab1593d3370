output "databases" {
  description = "What the module has made, by database."
  value       = module.migration.databases
}

output "hosts" {
  description = "Where the applications find their databases."
  value       = module.migration.hosts
}
