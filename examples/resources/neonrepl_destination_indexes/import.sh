# By the database on the subscriber and the publications. A name alone is looked for in the subscriber's configured database.
terraform import neonrepl_destination_indexes.shop neondb/shop

# Several are joined by commas, and tables begin with "table:".
terraform import neonrepl_destination_indexes.all neondb/billing,shop,table:public.countries

# Within a part, "/" is written %2F, and "%" is written %25: publication "shop" into database "a/b%".
terraform import neonrepl_destination_indexes.archive 'a%2Fb%25/shop'
