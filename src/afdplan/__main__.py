"""Run the command line as ``python -m afdplan``."""

from afdplan.cli import main

if __name__ == "__main__":
    main()
