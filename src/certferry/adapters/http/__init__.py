"""HTTP for adapters: exchanges that end, and messages that are posted."""
