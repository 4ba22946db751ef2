"""The outside world, one port each: wire formats, signatures, and errors mapped at the edge."""
