"""Styles: what the user asks for, and what is captured of it."""
