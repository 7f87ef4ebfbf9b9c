"""Who is calling, and whether there is room."""
