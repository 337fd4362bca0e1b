"""The commands of the command line, one file each: `add_parser(commands)` and `run(options)`."""
