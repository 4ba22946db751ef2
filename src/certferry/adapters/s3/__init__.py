"""Buckets that speak the API of Amazon S3."""
