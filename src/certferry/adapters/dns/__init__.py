"""DNS providers that can hold a TXT record, one file each."""
