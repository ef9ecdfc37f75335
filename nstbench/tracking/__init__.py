"""The run record, fingerprints and dashboards."""
