"""The schema of configurations, their files, checks and messages."""
