"""Helpers that know nothing of style transfer."""
