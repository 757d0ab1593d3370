terraform {
  required_version = ">= 1.8"

  required_providers {
    neonrepl = {
      source = "neonrepl/neonrepl"
    }

    # Until the move is applied: the state still names it.
    postgresql = {
      source = "cyrilgdn/postgresql"
    }
  }
}
