"""What an operator reads: the two languages, tables, JSON, the texts of plans and reports, logs."""
