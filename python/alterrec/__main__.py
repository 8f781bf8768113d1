"""Entry points: `alterrec`, which is `python -m alterrec`, and `alterrec-train`.

Importing the command line takes a second, in which Ctrl-C has to work already.
"""

from __future__ import annotations

from alterrec import signals


def main() -> None:
    """Run `alterrec`."""
    signals.install()
    from alterrec import cli

    cli.main()


def train_main() -> None:
    """Run `alterrec-train`, which is `alterrec train`."""
    signals.install()
    from alterrec import cli

    cli.train_main()


if __name__ == "__main__":
    main()
