"""Compare parts of alterrec in other pipelines with what they replace; the numbers of docs/embedding.md.

    python benches/embedding.py            # about two minutes
    python benches/embedding.py --quick    # small sizes and few rounds, as a check that it runs and is equal

Equal results are asserted before anything is timed. Each line is the time of the alternative divided by ours:
the ratio of medians, and the quartiles of the ratio over the rounds. Jobs alternate in one process on one
thread.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import ir_measures
import numpy as np
import ranx
import timing
import torch
from datasets import Dataset, disable_progress_bars
from ir_measures import RR, Success, nDCG
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from sentence_transformers.util import mine_hard_negatives
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from torchmetrics.retrieval import RetrievalHitRate, RetrievalMRR, RetrievalNormalizedDCG

from alterrec.metrics import metrics
from alterrec.ranking import rank_window, set_threads, target_counts
from alterrec.sessions import PrefixBatches, SessionStore


def compare(title: str, jobs: dict[str, Callable[[], Any]], repeats: int, rows: int, unit: str) -> None:
    """Time the jobs, the first of which is ours; print the cost per row and the ratio to ours."""
    seconds = timing.rounds(jobs, repeats)
    ours, *others = jobs
    print(title)
    for name in jobs:
        print(f"  {name:46} {float(np.median(seconds[name])) / rows * 1e6:9.2f} us per {unit}")
    for name in others:
        timing.line(f"{name}: times ours", seconds[ours], seconds[name])


def sampler(quick: bool, repeats: int) -> None:
    """Hard negatives of one training step: 64 samples of the ranks [20, 2000)."""
    rows, items, start, stop = (16, 4_000, 20, 400) if quick else (128, 40_000, 20, 2_000)
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(rows, 64, generator=generator) @ torch.randn(64, items, generator=generator)
    targets = torch.randint(items, (rows,), generator=generator)

    def topk_window() -> torch.Tensor:
        masked = scores.scatter(1, targets[:, None], -torch.inf)
        return masked.topk(stop).indices[:, start:]

    def drawn() -> torch.Tensor:
        picks = torch.multinomial(torch.ones(rows, stop - start), 64)
        return topk_window().gather(1, picks)

    window = rank_window(scores, start, stop, exclude=targets)
    torch.testing.assert_close(window, topk_window().sort().values, rtol=0, atol=0)
    for sample in (rank_window(scores, start, stop, exclude=targets, sample=64), drawn()):
        assert all(
            len(set(row) & set(whole)) == 64
            for row, whole in zip(sample.tolist(), window.tolist(), strict=True)
        )
    jobs = {
        "rank_window(sample=64)": lambda: rank_window(scores, start, stop, exclude=targets, sample=64),
        "topk, slice, multinomial": drawn,
    }
    compare(f"sampler: {rows} x {items}, ranks [{start}, {stop})", jobs, repeats, rows, "row")


def tiny_encoder() -> SentenceTransformer:
    """A sentence-transformers model of random word vectors; `mining` replaces its encode methods."""
    tokenizer = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = Whitespace()
    return SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu")


def mining(quick: bool, repeats: int) -> None:
    """Ranks [10, 100) of each query's passages, with the same embeddings on both sides."""
    queries, passages, start, stop = (50, 500, 10, 40) if quick else (500, 20_000, 10, 100)
    rng = np.random.default_rng(0)
    vectors = [rng.normal(size=(count, 384)).astype(np.float32) for count in (queries, passages)]
    query, passage = (array / np.linalg.norm(array, axis=1, keepdims=True) for array in vectors)
    corpus = np.array([f"passage {number}" for number in range(passages)], dtype=object)
    pairs = Dataset.from_dict(
        {"anchor": [f"query {number}" for number in range(queries)], "positive": corpus[:queries].tolist()}
    )
    encoder, own = tiny_encoder(), np.arange(queries)
    encoder.encode_query = lambda *_, **__: query  # type: ignore[method-assign]
    encoder.encode_document = lambda *_, **__: passage  # type: ignore[method-assign]

    def mined() -> Dataset:
        return mine_hard_negatives(
            pairs,
            encoder,
            corpus=corpus.tolist(),
            range_min=start,
            range_max=stop,
            num_negatives=stop - start,
            output_format="n-tuple",
            verbose=False,
        )

    def ours() -> NDArray[Any]:
        scores = encoder.similarity(query, passage)
        return corpus[rank_window(scores, start, stop, exclude=own).numpy()]

    columns = mined().to_dict()
    theirs = np.array([columns[f"negative_{place}"] for place in range(1, stop - start + 1)]).T
    np.testing.assert_array_equal(np.sort(ours().astype(str)), np.sort(theirs))
    jobs = {
        "similarity, rank_window": ours,
        "mine_hard_negatives": mined,
        "similarity alone": lambda: encoder.similarity(query, passage),
    }
    compare(f"mining: {queries} queries x {passages} passages", jobs, repeats, queries, "query")


def evaluation(quick: bool, repeats: int) -> None:
    """Hits, NDCG and MRR at 10 of the same scores, each library starting from the score matrix."""
    rows, items = (20, 500) if quick else (100, 10_000)
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(rows, items)).astype(np.float32)
    targets = rng.integers(items, size=rows)
    scores[np.arange(rows), targets] += 3
    qrels = {str(row): {str(target): 1} for row, target in enumerate(targets.tolist())}

    def run(depth: int) -> dict[str, dict[str, float]]:
        values, ids = torch.from_numpy(scores).topk(depth)
        both = enumerate(zip(ids.tolist(), values.tolist(), strict=True))
        return {str(row): {str(item): value for item, value in zip(*best, strict=True)} for row, best in both}

    def ours() -> list[float]:
        return list(metrics(*target_counts(scores, targets), ["hits@10", "ndcg@10", "mrr@10"]).values())

    def by_ranx(depth: int) -> list[float]:
        names = ["hit_rate@10", "ndcg@10", "mrr@10"]
        found = ranx.evaluate(ranx.Qrels(qrels), ranx.Run(run(depth)), names)
        return [float(found[name]) for name in names]

    def by_ir_measures(depth: int) -> list[float]:
        measures = [Success @ 10, nDCG @ 10, RR @ 10]
        found = ir_measures.calc_aggregate(measures, qrels, run(depth))
        return [found[measure] for measure in measures]

    def by_torchmetrics() -> list[float]:
        relevant = torch.zeros(rows, items, dtype=torch.long)
        relevant[torch.arange(rows), torch.from_numpy(targets)] = 1
        flat = torch.from_numpy(scores).flatten(), relevant.flatten()
        owner = torch.arange(rows).repeat_interleave(items)
        kinds = [RetrievalHitRate, RetrievalNormalizedDCG, RetrievalMRR]
        return [float(kind(top_k=10)(*flat, indexes=owner)) for kind in kinds]

    jobs = {
        "target_counts, metrics": ours,
        "ranx, best 20": lambda: by_ranx(20),
        "ranx, all": lambda: by_ranx(items),
        "ir-measures, best 20": lambda: by_ir_measures(20),
        "ir-measures, all": lambda: by_ir_measures(items),
        "torchmetrics, all": by_torchmetrics,
    }
    for name, job in jobs.items():
        np.testing.assert_allclose(job(), ours(), rtol=1e-6, err_msg=name)
    compare(f"metrics: {rows} x {items}", jobs, repeats, rows, "row")


def batches(quick: bool, repeats: int) -> None:
    """An epoch of padded prefixes as torch tensors in batches of 512."""
    rng = np.random.default_rng(0)
    lengths = 2 + rng.poisson(3, 500 if quick else 10_000)
    owners = np.repeat(np.arange(len(lengths)), lengths)
    store = SessionStore.from_arrays(owners, rng.integers(0, 40_000, len(owners)))
    prefixes = store.prefixes().tolist()
    sessions = [torch.from_numpy(store.session(row).astype(np.int64)) for row in range(len(store))]

    class Prefixes(torch.utils.data.Dataset[tuple[torch.Tensor, torch.Tensor]]):
        def __len__(self) -> int:
            return len(prefixes)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
            session, end = prefixes[index]
            return sessions[session][max(0, end - 50) : end], sessions[session][end]

    def collate(samples: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, ...]:
        items, targets = zip(*samples, strict=True)
        sizes = torch.tensor([len(prefix) for prefix in items])
        return pad_sequence(items, batch_first=True), sizes, torch.stack(targets)

    def loader(shuffle: bool) -> Iterator[tuple[torch.Tensor, ...]]:
        return iter(DataLoader(Prefixes(), batch_size=512, shuffle=shuffle, collate_fn=collate))

    def ours(shuffle: bool) -> Iterator[tuple[torch.Tensor, ...]]:
        for batch in PrefixBatches(store, 512, 50, shuffle, bucket=False):
            arrays = batch.items, batch.lengths, batch.targets
            yield tuple(torch.from_numpy(array) for array in arrays)

    for mine, other in zip(ours(False), loader(False), strict=True):
        for tensor, expected in zip(mine, other, strict=True):
            torch.testing.assert_close(tensor, expected, rtol=0, atol=0)
    jobs = {"PrefixBatches": lambda: list(ours(True)), "Dataset, DataLoader": lambda: list(loader(True))}
    compare(f"batches: {len(prefixes)} prefixes", jobs, repeats, len(prefixes), "prefix")


def imports(repeats: int) -> None:
    """Print the seconds that an import takes in a fresh interpreter, after a warm-up."""
    ours = "alterrec.ranking, alterrec.sessions, alterrec.metrics"
    seconds = {name: np.empty(repeats) for name in (ours, "numpy", "torch")}
    for turn in range(-1, repeats):
        for name in seconds:
            code = (
                f"import time; begin = time.perf_counter(); import {name}; print(time.perf_counter() - begin)"
            )
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            if turn >= 0:
                seconds[name][turn] = float(done.stdout)
    print("import in a fresh interpreter, including numpy")
    for name, taken in seconds.items():
        low, middle, high = np.percentile(taken, [25, 50, 75])
        print(f"  {name:58} {middle:6.3f} s  [{low:.3f}, {high:.3f}]")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds")
    quick = parser.parse_args().quick
    repeats = 2 if quick else 7
    torch.set_num_threads(1)
    set_threads(1)
    disable_progress_bars()
    print(f"{timing.machine()}; torch {torch.__version__}, numpy {np.__version__}")
    for table in (sampler, mining, evaluation, batches):
        table(quick, repeats)
    imports(repeats)


if __name__ == "__main__":
    main()
