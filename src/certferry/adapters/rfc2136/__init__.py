"""DNS by dynamic updates: `dns` has the settings, `update_server` reads and updates records."""
