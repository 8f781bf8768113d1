"""`python -m alterrec.worker ...` runs `alterrec ...` in a process that ends with its parent.

Standard input is a pipe that the parent holds open and never writes to. However the parent ends, killed or
not, the pipe closes. So no orphaned run writes into a folder that another process has locked.
"""

from __future__ import annotations

import os
import threading

from alterrec.__main__ import main


def _end_with_parent() -> None:
    # Not sys.stdin.read(): a thread in it holds the stream's lock, which blocks the interpreter's exit.
    while os.read(0, 1024):
        continue
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    main()
