terraform {
  # OpenTofu only: Terraform has no for_each of providers.
  required_version = ">= 1.11"

  required_providers {
    neonrepl = {
      source = "neonrepl/neonrepl"
    }
  }
}
