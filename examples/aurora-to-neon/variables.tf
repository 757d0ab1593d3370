variable "cluster_identifier" {
  description = "The Aurora cluster that is replicated from."
  type        = string
}

# The publisher: the writer endpoint of the Aurora cluster.

variable "publisher_host" {
  description = "The writer endpoint of the Aurora cluster."
  type        = string
}

variable "publisher_port" {
  description = "The port of the Aurora cluster."
  type        = number
  default     = 5432
}

variable "publisher_database" {
  description = "The database that holds the tables."
  type        = string
}

variable "publisher_username" {
  description = "A role that owns the tables and may replicate (`rds_replication`)."
  type        = string
  default     = "postgres"
}

variable "publisher_password" {
  description = "The password of that role."
  type        = string
  sensitive   = true
}

# The subscriber: a Neon project. Its direct host, not the pooler's.

variable "subscriber_host" {
  description = "The direct host of the Neon endpoint, without `-pooler`."
  type        = string
}

variable "subscriber_port" {
  description = "The port of the Neon endpoint."
  type        = number
  default     = 5432
}

variable "subscriber_database" {
  description = "The database that the rows are copied to. The tables are made in it."
  type        = string
  default     = "neondb"
}

variable "subscriber_username" {
  description = "A role that was made by Neon's console, CLI or API, so that it may subscribe."
  type        = string
}

variable "subscriber_password" {
  description = "The password of that role."
  type        = string
  sensitive   = true
}

# AWS. If a variable is null, the AWS SDK looks for the value: environment, profile, role.

variable "aws_region" {
  description = "The region of the Aurora cluster, such as `us-east-2`."
  type        = string
  default     = null
}

variable "aws_endpoint_url" {
  description = "The address of the RDS API, for a VPC endpoint or a stand-in."
  type        = string
  default     = null
}

variable "aws_access_key" {
  description = "The id of an access key."
  type        = string
  default     = null
}

variable "aws_secret_key" {
  description = "The secret access key."
  type        = string
  default     = null
  sensitive   = true
}

variable "active" {
  description = "The side that takes writes: publisher or subscriber."
  type        = string
  default     = "publisher"
}
