# Actions need Terraform 1.14. On the command line: terraform apply -invoke=action.neonrepl_wait_for_sync.shop
action "neonrepl_wait_for_sync" "shop" {
  config {
    subscription = "shop"
    until        = "caught_up"
    timeout      = "2h"
  }
}

# Runs the next step of the migration once every row has arrived.
resource "terraform_data" "next_step" {
  input = "switch the application over"

  lifecycle {
    action_trigger {
      events  = [before_create]
      actions = [action.neonrepl_wait_for_sync.shop]
    }
  }
}
