"""Callbacks: observe a run, or stop it."""
