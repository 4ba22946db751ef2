"""What certferry needs from outside, in its own words: one contract per port."""
