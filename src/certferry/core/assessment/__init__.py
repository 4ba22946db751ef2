"""How everything stands, and what operators are notified of."""
