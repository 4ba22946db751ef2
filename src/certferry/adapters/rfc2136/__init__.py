"""DNS by dynamic updates: `dns` has the settings, `client` updates and looks records up."""
