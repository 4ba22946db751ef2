"""One file = one kind of channel through which operators are told."""
