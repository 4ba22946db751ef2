"""A stand-in of Alibaba Cloud DNS: `service` has its calls, `wire` its signature and answers."""
