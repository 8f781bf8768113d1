"""Measure time and memory of text vectors for a large catalogue, with an empty cache.

    python benches/texts.py                     # a million texts: lsa and a static encoder
    python benches/texts.py --items 20000       # smaller, as a check that it runs
    python benches/texts.py --encoder use-multilingual --items 2000

Texts have eight words of 60,000, drawn with the frequencies of a natural language. ``static`` is a model in
the layout of model2vec with 30,000 words and 256 columns, which is made for the measurement. Each encoder
runs in a separate process. Peak is the largest memory of that process, and before is that with the texts
alone. Rates are texts per second of CPU time, so that other programs on the machine change them little.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from alterrec.data.dataset import ItemText
from alterrec.data.text import text_vectors
from alterrec.runs.memory import peak_memory_bytes

WORDS, LENGTH = 60_000, 8
STATIC_WORDS, STATIC_COLUMNS = 30_000, 256
MIB = 2**20


def catalogue(items: int) -> ItemText:
    """Texts whose words have frequencies of 1 / rank."""
    rng = np.random.default_rng(0)
    names = np.array([f"word{rank}" for rank in range(WORDS)], dtype=object)
    bounds = np.cumsum(1 / np.arange(1, WORDS + 1))
    texts: list[str] = []
    for first in range(0, items, 50_000):
        shape = min(50_000, items - first), LENGTH
        drawn = np.searchsorted(bounds, rng.random(shape) * bounds[-1])
        texts += [" ".join(row) for row in names[drawn]]
    return ItemText({"title": texts})


def static_model(folder: Path) -> str:
    """A static model of random vectors, as a folder."""
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    words = {"[UNK]": 0} | {f"word{rank}": rank + 1 for rank in range(STATIC_WORDS)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    table = np.random.default_rng(0).standard_normal((len(words), STATIC_COLUMNS), np.float32)
    save_file({"embeddings": table}, folder / "model.safetensors")
    module = {"idx": 0, "name": "0", "path": ".", "type": "sentence_transformers.models.StaticEmbedding"}
    (folder / "modules.json").write_text(json.dumps([module]), "utf-8")
    return str(folder)


def measure(encoder: str, items: int) -> dict[str, float]:
    """Seconds, texts per second of CPU time, and MiB of memory before and at most."""
    with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryDirectory() as model:
        name = static_model(Path(model)) if encoder == "static" else encoder
        text = catalogue(items)
        before, began, cpu = peak_memory_bytes(), time.perf_counter(), time.process_time()
        vectors = text_vectors(text, name, cache_dir=cache)
        assert len(vectors) == items
        assert np.isfinite(vectors[:1000]).all()
        used = time.process_time() - cpu
        return {
            "columns": vectors.shape[1],
            "seconds": time.perf_counter() - began,
            "cpu": used,
            "rate": items / used,
            "texts": before / MIB,
            "peak": peak_memory_bytes() / MIB,
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--encoder", action="append", help="lsa, static, or any encoder; repeatable")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    encoders = given.encoder or ["lsa", "static"]
    if given.child:
        print(json.dumps(measure(encoders[0], given.items)))
        return
    print("encoder           items  columns  seconds  CPU s  texts/CPU s  MiB before  peak MiB")
    for encoder in encoders:
        command = [sys.executable, __file__, "--child", "--encoder", encoder, "--items", str(given.items)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(
            f"{encoder:16} {given.items:6} {found['columns']:8} {found['seconds']:8.0f} {found['cpu']:6.0f} "
            f"{found['rate']:12.0f} {found['texts']:11.0f} {found['peak']:9.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
