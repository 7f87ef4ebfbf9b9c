"""Recorded bodies, damaged at random: `python -m tests.fuzzing --n 200000 --seed 1`. The tests run
a bounded number of them.
"""
