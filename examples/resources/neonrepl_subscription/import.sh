# By database and name. A name alone is looked for in the subscriber's configured database.
terraform import neonrepl_subscription.shop neondb/shop
