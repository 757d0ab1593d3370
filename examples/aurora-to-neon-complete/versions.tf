terraform {
  # Write-only attributes.
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
    neon = {
      source  = "kislerdm/neon"
      version = "~> 0.15"
    }
    neonrepl = {
      source = "neonrepl/neonrepl"
    }
  }
}
