"""Tools of MCP servers, through the package `mcp` (the extra of this name).

A server is a stranger: it may lie about its tools, send anything, or die. `answers` decides what
its words mean, `gate`, `http` and `stdio` bound what it can cost, `server` keeps the connection.
"""
