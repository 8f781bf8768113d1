"""`python -m alterrec` is `alterrec`."""

from alterrec.cli import main

if __name__ == "__main__":
    main()
