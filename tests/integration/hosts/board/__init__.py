"""A Django app with tables `messages` and `conversations` of its own."""
