# terraform query -generate-config-out=subscriptions.tf writes a resource and an import block for each.
list "neonrepl_subscription" "all" {
  provider         = neonrepl
  include_resource = true
}
