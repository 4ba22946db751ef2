"""Values for all domains and certificates of accounts and hosts, including undeclared ones."""
