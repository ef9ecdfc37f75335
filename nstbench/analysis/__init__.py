"""Analysis of run records: comparisons, statistics, figures and reports; imports nothing that trains."""
