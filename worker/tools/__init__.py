"""Tools that run on the server: what a tool is, how it is declared and found, how one call is
executed.

Applications import `tokenwire.tools`. Nothing here knows attempts, SQL or the log.
"""
