"""Adapters of certferry for Harbour: DNS zones, and domains with HTTPS."""
