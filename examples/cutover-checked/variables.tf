variable "active" {
  description = "The side that takes writes: publisher or subscriber."
  type        = string
  default     = "publisher"
}

variable "change_ticket" {
  description = "The ticket that allows the cutover."
  type        = string
  default     = ""
}
