"""Cloudflare's DNS: `dns` is the DNS service, `client` makes its calls and explains its errors."""
