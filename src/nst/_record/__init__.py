"""The record of a run, and the run from its record."""
