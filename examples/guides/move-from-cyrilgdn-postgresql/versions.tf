terraform {
  required_version = ">= 1.8"

  required_providers {
    neonrepl = {
      source = "neonrepl/neonrepl"
    }

    # Needed until the move is applied, because the state still names it.
    postgresql = {
      source = "cyrilgdn/postgresql"
    }
  }
}
