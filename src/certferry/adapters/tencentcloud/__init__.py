"""DNSPod by Tencent Cloud's API 3.0: its calls, signature and errors (docs/facts/dnspod.md §2)."""
