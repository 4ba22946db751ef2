"""What was found, and what the state stores of it."""
