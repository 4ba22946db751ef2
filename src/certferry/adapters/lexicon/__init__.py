"""The DNS services that the library dns-lexicon supports: `dns` calls one provider, and limits the
time of each call.
"""
