terraform {
  required_version = ">= 1.12"

  required_providers {
    neonrepl = {
      source = "neonrepl/neonrepl"
    }
  }
}
