# From the provider cyrilgdn/postgresql. The object stays as it is.
moved {
  from = postgresql_replication_slot.warehouse
  to   = neonrepl_replication_slot.warehouse
}
