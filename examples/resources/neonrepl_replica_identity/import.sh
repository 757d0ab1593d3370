# By database and table. A table alone is looked for in the publisher's configured database.
terraform import neonrepl_replica_identity.events shop/public.events

# Within a part, "/" is written %2F, and "%" is written %25: table "a/b%" of schema audit. A schema or a table with a dot in its
# name stands in double quotes.
terraform import neonrepl_replica_identity.archive 'shop/audit.a%2Fb%25'
