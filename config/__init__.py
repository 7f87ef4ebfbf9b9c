"""What an operator may set: `settings` reads the environment, `catalogue` reads the list of models. Imports nothing of the project."""
