variable "migrator_password" {
  type      = string
  sensitive = true
}

variable "neon_password" {
  type      = string
  sensitive = true
}

variable "replicator_password" {
  type      = string
  sensitive = true
}
