"""Push a run to a repository of the Hugging Face Hub."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from pathlib import Path

from alterrec.errors import InputError
from alterrec.exports.card import CARD, model_card
from alterrec.files import check_regular, first_line, read_text
from alterrec.manifest import ROLES, write_manifest
from alterrec.results import read_run

# These have sessions of the data: their ids, and items that were viewed or bought together.
PRIVATE = ("ranks.parquet", "top.parquet", "examples.json")


def push(run: str | Path, repo: str, *, public: bool = False) -> str:
    """Push a finished run to the Hub, and return the address of the repository.

    The repository gets what :func:`alterrec.load` reads, ``result.json``, the training curves, a manifest of
    these files, and ``README.md``: that of the run folder if it has one, else the model card. Files with
    sessions of the data (``ranks.parquet``, ``top.parquet``, ``examples.json``) stay here, so commands that
    compare runs cannot use the copy. The texts and ids of items are pushed, and for ``hggnn`` the ids of
    users.

    Args:
        run: path of the run folder.
        repo: name of the repository, ``user/name``; it is created if it does not exist.
        public: whether a new repository is public. Default: private. An existing one stays as it is.

    Raises:
        InputError: the folder is not that of a finished run, or the Hub refuses the push, for example because
            nobody is logged in (``hf auth login``).
    """
    folder = read_run(Path(run))
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise InputError('pushing needs huggingface_hub; run `pip install "alterrec[hub]"`') from None
    with tempfile.TemporaryDirectory() as name:
        new = Path(name)
        for file in ROLES:
            if file not in PRIVATE and (folder.path / file).exists():
                check_regular(folder.path / file)
                shutil.copyfile(folder.path / file, new / file)
        write_manifest(new)
        card = folder.path / CARD
        (new / CARD).write_text(read_text(card) if card.exists() else model_card(folder), "utf-8")
        api = HfApi(library_name="alterrec")
        # The library raises errors of httpx and of its own for networks, names and rights.
        try:
            url = api.create_repo(repo, private=not public, exist_ok=True)
            with warnings.catch_warnings():
                # vocabulary.parquet belongs to the model.
                warnings.filterwarnings("ignore", "It seems that you are about to commit a data file")
                api.upload_folder(
                    repo_id=repo,
                    folder_path=new,
                    commit_message=f"{folder.result.model} on {folder.result.data.name}",
                    # A file of an earlier run would not belong to this one.
                    delete_patterns=list(ROLES),
                )
        except Exception as error:
            raise InputError(
                f"the Hub did not accept {repo} ({first_line(error)}); check the name, the network and "
                "`hf auth login`"
            ) from None
    return str(url)
