# By database and name. A name alone is looked for in the publisher's configured database.
terraform import neonrepl_replication_slot.warehouse shop/warehouse

# Within a part, "/" is written %2F, and "%" is written %25: slot "archive" of database "a/b%".
terraform import neonrepl_replication_slot.archive 'a%2Fb%25/archive'
