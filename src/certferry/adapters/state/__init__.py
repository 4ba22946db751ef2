"""What certferry remembers, in one SQL schema."""
