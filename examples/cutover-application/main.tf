# The application follows: it reads the address of its database from a parameter, which comes from the cutover.

provider "aws" {
  region = "us-east-2"
}

# Both servers come from NEONREPL_PUBLISHER_URL and NEONREPL_SUBSCRIBER_URL.
provider "neonrepl" {}

resource "neonrepl_subscription" "shop" {
  name                  = "shop"
  publications          = ["shop"]
  wait_for_initial_sync = true
}

resource "neonrepl_cutover" "shop" {
  subscriptions = [neonrepl_subscription.shop.name]
  active        = var.active

  reverse {}
}

# The plan of the cutover already shows the new values; apply writes them once writes have moved.
resource "aws_ssm_parameter" "database" {
  for_each = {
    host = neonrepl_cutover.shop.host
    port = tostring(neonrepl_cutover.shop.port)
    name = neonrepl_cutover.shop.database
  }

  name  = "/shop/database/${each.key}"
  type  = "String"
  value = each.value
}
