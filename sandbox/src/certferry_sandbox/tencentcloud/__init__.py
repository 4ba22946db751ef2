"""A stand-in for Tencent Cloud's API 3.0, built from docs/facts: dnspod.md §2, tencentcloud.md."""
