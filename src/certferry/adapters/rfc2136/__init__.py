"""A name server that takes dynamic updates: `dns` is the DNS service, `client` sends updates and
looks records up.
"""
