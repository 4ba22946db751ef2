"""Values for observations, and for the state's records."""
