"""The state: everything certferry stores, in a single SQL schema."""
