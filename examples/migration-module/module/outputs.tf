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
