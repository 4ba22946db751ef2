"""What certferry stores, in one SQL schema."""
