"""The report of a study as an HTML page on disk: pictures, table, curves, trade-off, failures."""
