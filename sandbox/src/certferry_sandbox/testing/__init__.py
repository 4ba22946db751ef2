"""For authors of providers and targets: in-memory twins and contract suites."""
