import {
  to = neonrepl_replica_identity.events
  identity = {
    database = "shop"
    name     = "public.events"
  }
}
