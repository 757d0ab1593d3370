terraform {
  required_providers {
    neonrepl = {
      source = "neonrepl/neonrepl"
    }
  }
}
