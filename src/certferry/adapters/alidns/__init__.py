"""Alibaba Cloud DNS: `dns` is the DNS service, `client` makes its signed RPC calls and explains its
errors.
"""
