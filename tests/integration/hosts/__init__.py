"""Applications that share our database. Each runs in its own process, since table names are fixed
at import.
"""
