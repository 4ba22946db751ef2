"""The services of the library lexicon: `dns` is the DNS service, `client` makes bounded calls to
one provider.
"""
