data "neonrepl_neon_nat_addresses" "neon" {
  region = "aws-us-east-2"
}

# One rule for each address, with hashicorp/aws:
#
# resource "aws_vpc_security_group_ingress_rule" "neon" {
#   for_each          = toset(data.neonrepl_neon_nat_addresses.neon.cidrs)
#   security_group_id = var.aurora_security_group_id
#   cidr_ipv4         = each.value
#   ip_protocol       = "tcp"
#   from_port         = 5432
#   to_port           = 5432
# }

output "neon_cidrs" {
  value = data.neonrepl_neon_nat_addresses.neon.cidrs
}
