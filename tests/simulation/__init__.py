"""The real worker, log rules, hub, broadcaster and API on a virtual clock and a faulty network; see
docs/simulation.md.
"""
