# From the provider cyrilgdn/postgresql. The object stays as it is.
moved {
  from = postgresql_publication.shop
  to   = neonrepl_publication.shop
}
