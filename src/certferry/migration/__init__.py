"""Everything about other ACME clients: what they left, what is adopted, what to switch off."""
