import {
  to = neonrepl_replica_identity.events
  id = "shop/public.events"
}
