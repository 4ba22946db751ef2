"""What is true, what is wanted, what must change: pure values and decisions."""
