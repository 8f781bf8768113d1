"""`python -m alterrec` runs the command line."""

from alterrec.cli import main

if __name__ == "__main__":
    main()
