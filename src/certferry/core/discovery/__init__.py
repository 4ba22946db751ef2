"""Values for all domains and certificates of accounts and hosts, declared or not."""
