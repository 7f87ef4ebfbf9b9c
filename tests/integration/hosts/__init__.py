"""Applications that share their database with us. Each runs in a process of its own, because
names of tables are settled at import."""
