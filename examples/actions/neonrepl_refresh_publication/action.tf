# Actions need Terraform 1.14. On the command line: terraform apply -invoke=action.neonrepl_refresh_publication.shop
action "neonrepl_refresh_publication" "shop" {
  config {
    subscription = "shop"
    timeout      = "2h"
  }
}
