"""Applications that share their database with us. Each runs in a process of its own: names of tables are settled at import."""
