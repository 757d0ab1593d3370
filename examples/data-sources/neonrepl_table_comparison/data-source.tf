# Hashes every row that the publication sends, on both sides in the same state of each table.
data "neonrepl_table_comparison" "shop" {
  publications = ["shop"]
  mode         = "rows"
}

# The rows that differ, by table.
output "differences" {
  value = {
    for table in data.neonrepl_table_comparison.shop.tables : table.name => table.differences if !table.equal
  }
}
