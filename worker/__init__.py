"""Background jobs: a generation is claimed, asked of a provider, logged piece by piece, checkpointed, ended once."""
