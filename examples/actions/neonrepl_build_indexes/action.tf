# Actions need Terraform 1.14. On the command line: terraform apply -invoke=action.neonrepl_build_indexes.shop
action "neonrepl_build_indexes" "shop" {
  config {
    publications  = ["shop"]
    subscriptions = ["shop"]
    parallel      = 4
  }
}
