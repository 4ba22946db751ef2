"""Cloudflare's DNS: `dns` makes calls to the API and explains errors."""
