variable "publisher_url" {
  description = "The server that is left. Its database is the one that is connected to where none is named."
  type        = string
  sensitive   = true
}

variable "subscriber_url" {
  description = "The server that is moved to, on which the databases exist already."
  type        = string
  sensitive   = true
}

variable "databases" {
  description = "The databases to move, by a short name for each."
  type = map(object({
    publisher  = optional(string)
    subscriber = optional(string)
    schemas    = optional(set(string), ["public"])
    tables     = optional(set(string))
  }))
}

variable "phase" {
  description = "How far to go: `copy`, then `index`, then `ready`, and `moved` on the day."
  type        = string
  default     = "copy"
}
