data "neonrepl_tables" "billing" {
  schemas = ["billing"]
}

# Every table of the schema that can be published with its updates and deletes.
resource "neonrepl_publication" "billing" {
  name = "billing"
  tables = [
    for table in data.neonrepl_tables.billing.tables : table.qualified_name
    if table.has_primary_key && !table.unlogged && table.partition_of == null
  ]
}
