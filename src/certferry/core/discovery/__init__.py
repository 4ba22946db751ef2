"""What accounts and hosts hold, whatever is declared."""
