"""Let's Encrypt certificates by DNS-01, deployed to a CDN, proven at the edge, renewed for ever."""

__version__ = "0.1.0"
