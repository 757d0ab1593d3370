# By the identifier of the instance.
terraform import neonrepl_rds_logical_replication.shop shop
