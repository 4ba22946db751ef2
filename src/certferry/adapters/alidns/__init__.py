"""Alibaba Cloud DNS: `dns` makes its signed RPC calls and explains its errors."""
