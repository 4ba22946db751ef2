"""A stand-in for Alibaba Cloud DNS: calls in `service`, signature and answers in `wire`."""
