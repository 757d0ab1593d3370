output "databases" {
  description = "What the module has made, by database."
  value       = module.migration.databases
}
