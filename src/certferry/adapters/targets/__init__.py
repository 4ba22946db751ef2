"""Places a certificate is deployed to, one file each."""
