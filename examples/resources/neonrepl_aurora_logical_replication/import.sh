# By the identifier of the cluster.
terraform import neonrepl_aurora_logical_replication.shop shop
