"""DNSPod by Tencent Cloud's API 3.0: calls, signature and errors (docs/facts/dnspod.md §2)."""
