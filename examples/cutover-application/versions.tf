terraform {
  required_providers {
    neonrepl = {
      source = "neonrepl/neonrepl"
    }
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.0"
    }
  }
}
