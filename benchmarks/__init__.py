"""One script for each question; README.md holds dated results."""
