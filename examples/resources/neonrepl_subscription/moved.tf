# From the provider cyrilgdn/postgresql. The object stays as it is.
moved {
  from = postgresql_subscription.shop
  to   = neonrepl_subscription.shop
}
