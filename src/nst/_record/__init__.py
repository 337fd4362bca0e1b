"""The record of a run, and back."""
