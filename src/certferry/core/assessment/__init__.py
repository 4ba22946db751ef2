"""Judgments on certificates, domains and hosts, and the notices for operators."""
