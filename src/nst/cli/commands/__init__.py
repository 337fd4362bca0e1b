"""The commands, a module each: `HELP`, `DESCRIPTION`, `add_arguments(parser)`, `run(options)`.

`run` may return an exit status; the optional `complete(options)` refuses contradictory options.
"""
