data "neonrepl_subscriptions" "warehouse" {
  database = "warehouse"
}

output "disabled_subscriptions" {
  value = [for one in data.neonrepl_subscriptions.warehouse.subscriptions : one.name if !one.enabled]
}
