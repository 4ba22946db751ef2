"""Shared parts of CDNs: targets, copies in a store, lists, lost answers, failures and caches."""
