"""A stand-in for Tencent Cloud's API 3.0: DNSPod, CDN, EdgeOne and the store of certificates."""
