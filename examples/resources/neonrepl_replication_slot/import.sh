# By database and name. A name alone is looked for in the publisher's configured database.
terraform import neonrepl_replication_slot.warehouse shop/warehouse
