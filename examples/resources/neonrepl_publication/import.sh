# By database and name. A name alone is looked for in the publisher's configured database.
terraform import neonrepl_publication.shop shop/shop

# Within a part, "/" is written %2F, and "%" is written %25: publication "50%" of database "a/b".
terraform import neonrepl_publication.half 'a%2Fb/50%25'
