# By the subscriber's database and the subscription. A subscription alone is looked for in the configured database.
terraform import neonrepl_cutover.shop neondb/shop

# Several subscriptions are joined by commas, in the order of their names.
terraform import neonrepl_cutover.both neondb/mall,shop

# Within a part, "/" is written %2F, and "%" is written %25: subscription "50%" of database "a/b".
terraform import neonrepl_cutover.half 'a%2Fb/50%2525'
