"""One file = one kind of channel that brings messages to operators."""
