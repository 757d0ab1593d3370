variable "pairs" {
  description = "The pairs of servers, by a short name for each. Their keys are not secret: OpenTofu shows them."
  type = map(object({
    publisher  = string
    subscriber = string
    database   = string
    username   = optional(string, "postgres")
    tables     = set(string)
    replicated = optional(bool, true)
  }))

  default = {
    shop = {
      publisher  = "shop.cluster-c9abcdefghij.us-east-2.rds.amazonaws.com"
      subscriber = "ep-cool-darkness-123456.us-east-2.aws.neon.tech"
      database   = "shop"
      tables     = ["public.users", "public.orders"]
    }
    billing = {
      publisher  = "billing.cluster-c9abcdefghij.us-east-2.rds.amazonaws.com"
      subscriber = "ep-quiet-meadow-234567.us-east-2.aws.neon.tech"
      database   = "billing"
      tables     = ["public.invoices"]
    }
    search = {
      publisher  = "search.cluster-c9abcdefghij.eu-central-1.rds.amazonaws.com"
      subscriber = "ep-small-river-345678.eu-central-1.aws.neon.tech"
      database   = "search"
      tables     = ["public.documents"]
    }
  }
}

variable "passwords" {
  description = "The passwords of both servers of each pair, by the same names."
  type = map(object({
    publisher  = string
    subscriber = string
  }))
  sensitive = true
}
