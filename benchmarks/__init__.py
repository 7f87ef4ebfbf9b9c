"""One script a question; README.md holds dated results."""
