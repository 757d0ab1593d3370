terraform {
  required_version = ">= 1.9"

  required_providers {
    neonrepl = {
      source = "neonrepl/neonrepl"
    }
  }
}
