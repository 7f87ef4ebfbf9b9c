"""Background jobs: an answer is claimed, requested from a provider, logged, checkpointed, and ended
once.
"""

if not __name__.startswith("tokenwire."):
    # A second copy of every class would follow, and none of them would fit the first.
    raise ImportError("import tokenwire.worker, not worker")
