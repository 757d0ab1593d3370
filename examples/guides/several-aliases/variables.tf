variable "shop_publisher_url" {
  type      = string
  sensitive = true
}

variable "shop_subscriber_url" {
  type      = string
  sensitive = true
}

variable "billing_publisher_url" {
  type      = string
  sensitive = true
}

variable "billing_subscriber_url" {
  type      = string
  sensitive = true
}
