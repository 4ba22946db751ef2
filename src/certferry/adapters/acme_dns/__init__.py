"""A server of acme-dns: `dns` writes values at the names of registrations."""
