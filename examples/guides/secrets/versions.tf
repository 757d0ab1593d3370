terraform {
  required_version = ">= 1.11"

  required_providers {
    neonrepl = {
      source = "neonrepl/neonrepl"
    }
  }
}
