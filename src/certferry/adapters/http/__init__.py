"""HTTP for adapters: one exchange that ends, the sentences for those that fail, and messages that
are posted.
"""
