"""HTTP for adapters: bounded exchanges, posted messages, and a journal for reports."""
