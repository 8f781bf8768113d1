"""`python -m alterrec.worker ...` is `alterrec ...` in a process that ends when whoever started it does.

Its standard input is a pipe that the starter never writes to and holds open; however the starter ends,
killed or not, the pipe closes. So no training is left behind to write into a folder that another has claimed.
"""

from __future__ import annotations

import os
import threading

from alterrec.cli import main


def _end_with_starter() -> None:
    # Not sys.stdin.read(): a thread inside it would hold its lock when the interpreter ends.
    while os.read(0, 1024):
        continue
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_starter, daemon=True).start()
    main()
