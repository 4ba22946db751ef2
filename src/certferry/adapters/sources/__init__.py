"""Where certificates come from that certferry did not order."""
