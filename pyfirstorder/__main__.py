"""``python -m pyfirstorder``: the command line."""

from pyfirstorder.cli import main

if __name__ == "__main__":
    main()
