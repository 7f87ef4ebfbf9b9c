"""How an attempt resumes what an earlier one left."""
