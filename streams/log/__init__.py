"""The log: what it promises (`ports`), on Redis (`redis`, Lua scripts in `lua/`) and in memory."""
