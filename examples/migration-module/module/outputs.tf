output "databases" {
  description = "By short name: the subscription, its slot, and the tables that are published."
  value = {
    for key, subscription in neonrepl_subscription.this : key => {
      subscription = subscription.name
      slot         = subscription.slot_name
      tables       = neonrepl_publication.this[key].tables
    }
  }
}

output "hosts" {
  description = "By short name: where the application finds its database, once that is ready to be moved."
  value = {
    for key, cutover in neonrepl_cutover.this : key => {
      host     = cutover.host
      port     = cutover.port
      database = cutover.database
    }
  }
}
