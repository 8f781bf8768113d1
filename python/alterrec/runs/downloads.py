"""Run folders in repositories of the Hugging Face Hub."""

from __future__ import annotations

import re
from pathlib import Path

from alterrec.errors import InputError
from alterrec.files import first_line
from alterrec.manifest import MANIFEST, ROLES, check_manifest

SCHEME = "hf://"
_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def local_folder(run: str | Path) -> Path:
    """Return a run folder on this machine; one of the Hub, ``hf://user/name``, is downloaded first.

    ``hf://user/name@revision`` is a commit, branch or tag. Files that are in the cache of ``huggingface_hub``
    are not downloaded again. After the download, every file is compared with the manifest.

    Raises:
        InputError: the name is no name of a repository, the repository cannot be read or has no run, or a
            file is not the one that was pushed.

    Example:
        >>> local_folder("runs/mine").as_posix()
        'runs/mine'
        >>> local_folder("hf://mine")
        Traceback (most recent call last):
            ...
        alterrec.errors.InputError: 'hf://mine' names no repository; expected hf://USER/NAME or hf://USER/NAME@REVISION
    """
    if isinstance(run, Path) or not run.startswith(SCHEME):
        return Path(run)
    name, _, revision = run.removeprefix(SCHEME).partition("@")
    if not _NAME.fullmatch(name):
        raise InputError(f"{run!r} names no repository; expected hf://USER/NAME or hf://USER/NAME@REVISION")
    try:
        import huggingface_hub

        # Only files of a run are downloaded, so nothing else of the repository is ever read.
        folder = huggingface_hub.snapshot_download(
            name, revision=revision or None, allow_patterns=[*ROLES, MANIFEST]
        )
    except ImportError:
        raise InputError('hf:// needs huggingface_hub; run `pip install "alterrec[hub]"`') from None
    # The library raises errors of httpx, of the file system and of its own for networks, names and rights.
    except Exception as error:
        raise InputError(
            f"{run} cannot be downloaded ({first_line(error)}); check the name, the network and "
            "`hf auth login`"
        ) from None
    path = Path(folder)
    if check_manifest(path, contents=True) is None:
        raise InputError(f"{run} has no {MANIFEST}, so it is no run of this version; push it again")
    return path
