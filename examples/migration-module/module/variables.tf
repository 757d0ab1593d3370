variable "databases" {
  description = "The databases to move, by a short name for each. What is left out is the same on both servers as that name."
  type = map(object({
    publisher  = optional(string)
    subscriber = optional(string)
    schemas    = optional(set(string), ["public"])
    tables     = optional(set(string))
  }))
}

variable "name" {
  description = "What publications are called; subscriptions and their slots are called this and the short name of their database."
  type        = string
  default     = "migration"
}

variable "phase" {
  description = "How far to go: `copy`, `index`, `ready`, and `moved` for the day. Each keeps what those before it have made; from `moved` back to `ready` is the way back."
  type        = string
  default     = "copy"

  validation {
    condition     = contains(["copy", "index", "ready", "moved"], var.phase)
    error_message = "phase is \"copy\", \"index\", \"ready\" or \"moved\"."
  }
}
