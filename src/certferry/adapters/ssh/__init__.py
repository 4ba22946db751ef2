"""Servers of the operator's own, reached by the machine's `ssh`.

The adapter starts the program `ssh` with a list of arguments, so `~/.ssh/config` counts: names of
hosts, ports, jump hosts, agents, certificates. Every connection has `BatchMode` and
`StrictHostKeyChecking=yes`: `ssh` never asks, and refuses a server with an unknown or changed key.

A look and a delivery are one connection each. The remote command is one short line, which reads a
shell script (`place_files.sh`) and the files from standard input. So nothing secret is in an
argument or an environment, SFTP is not needed, and any login shell will do. The script compares
digests, writes the differing files into a folder beside the files, and changes all names at once,
with the folders and the receipt of `adapters.files`.

- `server.py`: the settings of an account, and the account (`connect`)
- `receiver.py`: a directory on the server, as a receiver of certificates
- `remote.py`: the script with its variables, and the script's answers
- `session.py`: a run of `ssh`
- `refusals.py`: errors for the words of `ssh`, of `sudo` and of the script
"""
