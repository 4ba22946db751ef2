"""Programs of the operator's: `run` runs one, for DNS records (`dns`), messages (`channel`)."""
