"""What the addresses of a name really serve."""
