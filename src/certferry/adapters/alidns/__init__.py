"""Alibaba Cloud DNS: `dns` makes signed RPC calls and explains errors."""
