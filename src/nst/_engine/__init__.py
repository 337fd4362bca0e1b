"""The way of a run: inputs, scales, objective, steps."""
