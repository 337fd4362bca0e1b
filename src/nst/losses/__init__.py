"""Losses: what a picture is scored by."""
