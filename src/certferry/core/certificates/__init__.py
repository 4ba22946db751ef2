"""What a certificate is: its names, its chain and key, its lineage, when it is renewed."""
