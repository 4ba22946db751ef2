"""Certificate files on this machine: an open directory, and files read, exported or handed over."""
