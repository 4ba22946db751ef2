"""A name server that takes dynamic updates: `dns` is the DNS service, `client` sends updates, looks
records up, and explains refusals.
"""
