variable "active" {
  description = "The side that takes writes: publisher or subscriber."
  type        = string
  default     = "publisher"
}
