"""A module for each command of `durable`, named as the command is; the table of them is in `durable.cli`.

Each has `add_options(parser)`, and `run(options, screen, reader)`, which returns the exit code.
"""
