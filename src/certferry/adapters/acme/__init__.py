"""Certificates from an ACME server (RFC 8555), proven by DNS-01 or dns-persist-01."""
