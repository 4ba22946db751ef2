"""The ports: a contract for each service that certferry needs from outside. Besides the errors in
its docstring, a method that asks a service may raise `RunEnded` at the end of the run.
"""
