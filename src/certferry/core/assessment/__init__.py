"""How everything stands, and who is told."""
