"""The commands, a module each, with the texts of its help, `add_arguments(parser)`, `run(options)`.

`run` may return an exit status; the optional `complete(options)` refuses contradictory options.
"""
