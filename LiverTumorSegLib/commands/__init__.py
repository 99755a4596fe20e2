"""The commands of the command line, a file a subject: what arguments a command takes, and what it does with them.

Opening these files is quick, so that `--help` is; what computes is imported in the functions that need it.
"""
