"""Cloudflare's DNS: `dns` makes its calls and explains its errors."""
