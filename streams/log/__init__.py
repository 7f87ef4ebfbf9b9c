"""The log: its contract (`ports`), on Redis (`redis`, Lua scripts in `lua/`) and in memory."""
