"""The outside world, one door each: wire formats, signatures, and errors mapped at the edge."""
