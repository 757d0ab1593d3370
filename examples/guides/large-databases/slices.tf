locals {
  slices = {
    low    = "id < 100000000"
    middle = "id >= 100000000 AND id < 200000000"
    high   = "id >= 200000000"
  }
}

resource "neonrepl_publication" "slice" {
  for_each = local.slices

  name = "clicks_${each.key}"

  table {
    name  = "public.clicks"
    where = each.value
  }
}

resource "neonrepl_destination_schema" "clicks" {
  tables = ["public.clicks"]
}

resource "neonrepl_subscription" "slice" {
  for_each = local.slices

  name             = "clicks_${each.key}"
  publications     = [neonrepl_publication.slice[each.key].name]
  refresh_triggers = { slice = neonrepl_publication.slice[each.key].fingerprint }
  depends_on       = [neonrepl_destination_schema.clicks]
}
