"""The command `uprobes`: one file for each subcommand, imported when it is asked for."""
