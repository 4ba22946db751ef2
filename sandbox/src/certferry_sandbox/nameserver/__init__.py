"""The sandbox's name servers: `service` has the servers, `lookup` the search in the zones, and
`daemon` the sockets.
"""
