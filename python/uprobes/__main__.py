"""`python -m uprobes` is the command `uprobes`."""

from uprobes.cli.main import main

if __name__ == "__main__":
    main()
