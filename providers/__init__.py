"""Language-model providers on the wire, one stream of deltas for all. Usable by itself: imports nothing else of the project."""
