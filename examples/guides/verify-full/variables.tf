variable "aurora_password" {
  type      = string
  sensitive = true
}

variable "neon_url" {
  type      = string
  sensitive = true
}
