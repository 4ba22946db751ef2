"""Read the operator's TOML and environment into frozen settings."""
