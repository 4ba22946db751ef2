"""From the operator's TOML and environment to frozen settings."""
