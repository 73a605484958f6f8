"""`python -m macekit` is `macekit`."""

from macekit.cli import main

if __name__ == "__main__":
    main()
