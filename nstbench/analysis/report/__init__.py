"""The report of a study as a page that opens from disk: pictures, table, curves, trade-off, failures."""
