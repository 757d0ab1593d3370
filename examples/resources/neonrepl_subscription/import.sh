# By database and name. A name alone is looked for in the subscriber's configured database.
terraform import neonrepl_subscription.shop neondb/shop

# Within a part, "/" is written %2F, and "%" is written %25: subscription "50%" of database "a/b".
terraform import neonrepl_subscription.half 'a%2Fb/50%25'
