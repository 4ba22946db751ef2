"""A server of acme-dns: `dns` is the DNS service, `client` speaks to the server and reads
registrations.
"""
