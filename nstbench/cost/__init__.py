"""What a run would cost in seconds and memory."""
