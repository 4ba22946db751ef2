"""Harbour for certferry: its DNS zones, and the domains that it serves."""
