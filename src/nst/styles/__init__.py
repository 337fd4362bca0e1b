"""Styles and their captured statistics."""
