"""Cert Spotter: SSLMate's search of the public logs of Certificate Transparency.

Documentation: https://sslmate.com/help/reference/ct_search_api_v1. certferry sends one kind of
request, a GET for the certificates at or below a registered domain after an id, and asks for facts
alone, never for a certificate. A key is optional (docs/facts/transparency.md §1).
"""
