"""What finished runs say: reads run records, imports nothing that trains."""
