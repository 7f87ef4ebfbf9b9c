"""The real worker, log rules, hub, broadcaster and API on a virtual clock, with a faulty network between them; see docs/simulation.md."""
