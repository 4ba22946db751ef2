"""For authors of providers and targets: contract suites, and fakes in memory."""
