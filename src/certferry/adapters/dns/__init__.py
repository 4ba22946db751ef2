"""What DNS services share: a record is written, read back and removed; answers in JSON."""
