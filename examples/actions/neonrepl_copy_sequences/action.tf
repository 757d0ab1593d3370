# Actions need Terraform 1.14. On the command line: terraform apply -invoke=action.neonrepl_copy_sequences.shop
action "neonrepl_copy_sequences" "shop" {
  config {
    publications = ["shop"]
    sequences    = ["billing.invoice_numbers"]
  }
}
