"""DNS by dynamic updates: `dns` has the settings, `client` reads and updates records."""
