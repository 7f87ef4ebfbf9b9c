"""The contract between worker, broadcaster, web and the clients: events, positions, the log, the hub, tokens, frames."""
