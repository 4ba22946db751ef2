"""What takes a certificate whole: files in a directory of this machine, or a program that is run
for it.
"""
