"""Background jobs. A worker claims an answer, streams it from a provider into the log, saves
checkpoints, and ends it once.
"""

if not __name__.startswith("tokenwire."):
    # A bare import would create a second copy of every class.
    raise ImportError("import tokenwire.worker, not worker")
