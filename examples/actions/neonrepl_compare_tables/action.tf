# Actions need Terraform 1.14. On the command line: terraform apply -invoke=action.neonrepl_compare_tables.shop
action "neonrepl_compare_tables" "shop" {
  config {
    publications = ["shop"]
    mode         = "rows"
    timeout      = "2h"
  }
}
