"""Shared parts of CDNs: copies in a store, lists, lost answers, failures and cached answers."""
