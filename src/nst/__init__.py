"""Neural style transfer: repaint a photograph in the manner of a painting."""

__version__ = "0.1.0"
