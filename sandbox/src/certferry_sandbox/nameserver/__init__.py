"""Name servers of the sandbox, from a question in bytes to an answer: `service` has the servers,
`lookup` what they know.
"""
