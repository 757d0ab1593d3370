# Actions need Terraform 1.14. On the command line: terraform apply -invoke=action.neonrepl_reboot_writer.shop
action "neonrepl_reboot_writer" "shop" {
  config {
    cluster_identifier = "shop"
    timeout            = "20m"
  }
}

# Reboots the writer after each change of these settings.
resource "terraform_data" "settings" {
  input = { max_worker_processes = 32 }

  lifecycle {
    action_trigger {
      events  = [after_update]
      actions = [action.neonrepl_reboot_writer.shop]
    }
  }
}
