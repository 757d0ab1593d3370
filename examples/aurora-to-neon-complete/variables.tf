variable "aws_region" {
  description = "The region of the Aurora cluster. The Neon project is made in the same region."
  type        = string
  default     = "us-east-2"
}

variable "cluster_identifier" {
  description = "The Aurora cluster that is replicated from."
  type        = string
}

variable "aurora_security_group_id" {
  description = "The security group of the Aurora cluster."
  type        = string
}

variable "database" {
  description = "The database that holds the tables."
  type        = string
}

variable "tables" {
  description = "The tables to replicate, as `schema.table`."
  type        = set(string)
}

variable "aurora_username" {
  description = "The role that publishes: it owns the tables, and may change the database."
  type        = string
  default     = "postgres"
}

variable "aurora_password" {
  description = "Its password."
  type        = string
  sensitive   = true
}

variable "replicator_username" {
  description = "The role that Neon connects as: LOGIN, member of rds_replication, SELECT on the tables."
  type        = string
}

variable "replicator_password" {
  description = "Its password. It reaches neither plan nor state."
  type        = string
  ephemeral   = true
}

variable "replicator_password_version" {
  description = "Raise it when the password has changed."
  type        = number
  default     = 1
}

variable "active" {
  description = "The side that takes writes: publisher or subscriber."
  type        = string
  default     = "publisher"
}
