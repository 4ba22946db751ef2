"""Vendors' HTTP APIs, shared by the adapters that need them."""
