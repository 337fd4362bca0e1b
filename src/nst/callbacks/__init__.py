"""Callbacks: what follows a run."""
