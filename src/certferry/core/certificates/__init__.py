"""Certificates: names, chain, key, lineage, and the moment of renewal."""
