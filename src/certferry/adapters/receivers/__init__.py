"""What takes a certificate whole: files in a directory, or a program that is run for it."""
