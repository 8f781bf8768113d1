"""Compare a hard-negative step with its unavoidable matrix products and with plain PyTorch.

    python benches/step.py            # Amazon-French size: 40,258 items, d 300, 512 samples, window 20..20000
    python benches/step.py --quick    # a tenth of the size, as a check that it runs and is equal

Both sides alternate in one process; losses and gradients are asserted equal first (dropout is off). Memory is
the peak that a step adds to its process beyond weights, Adam's moments, text vectors and batches, measured in
a separate process for each side.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import Any, NamedTuple

import numpy as np
import timing
import torch
import torch.nn.functional as F

from alterrec import ranking
from alterrec.evaluation.evaluate import Protocol, evaluate
from alterrec.models.base import Recommender, Tables
from alterrec.models.batches import SessionBatch
from alterrec.models.catalogue import build_model
from alterrec.models.parts import ModelInputs
from alterrec.nn.losses import ScoreBuffer, candidate_cross_entropy
from alterrec.nn.mixtures import QueryBatch, mixture_cross_entropy
from alterrec.recipe import Recipe, resolve
from alterrec.sessions import Batch, PrefixBatches, SessionStore
from alterrec.training.schedule import Phase
from alterrec.training.step import Clock, NoClock, Step


class Size(NamedTuple):
    """Sizes of the measured step."""

    items: int
    dim: int
    text: int
    window: tuple[int, int]
    targets: int
    rounds: int


FULL = Size(40_258, 300, 384, (20, 20_000), 9_000, 5)
QUICK = Size(4_025, 32, 24, (4, 2_000), 300, 2)
PHASES = [
    Phase("id taught by text", "id", 1, "window", "text"),
    Phase("text taught by id", "text", 1, "window", "id"),
]
MAX_LEN = 50


def store(size: Size, sessions: int = 3_000) -> SessionStore:
    """Sessions whose prefixes have 3.8 items on average, as in the paper's Amazon-French data."""
    rng = np.random.default_rng(0)
    lengths = 2 + np.minimum(rng.geometric(0.27, sessions) - 1, 48)
    items = rng.integers(0, size.items, lengths.sum())
    return SessionStore.from_arrays(np.repeat(np.arange(sessions), lengths), items, num_items=size.items)


def system(size: Size, session: str = "transformer") -> tuple[Recommender, Recipe]:
    """AlterRec with two Transformers, without dropout, so that both sides compute the same."""
    recipe = resolve(
        "alterrec",
        ["paper"],
        {
            "model.dim": size.dim,
            "model.dropout": 0.0,
            "text.dropout": 0.0,
            "id.session": session,
            "text.session": session,
            "window.first": size.window[0] + 1,
            "window.last": size.window[1],
        },
    )
    torch.manual_seed(0)
    vectors = torch.randn(size.items, size.text)
    inputs = ModelInputs(size.items, vectors, torch.ones(size.items, dtype=torch.bool))
    return build_model(recipe, inputs), recipe


def plain_scores(network: Any, items: Any, lengths: Any, table: Any) -> Any:
    """Straightforward scores: prefixes padded to 50, every position encoded."""
    states = network.session(table, items)
    vectors = states[torch.arange(len(items)), lengths - 1] / network.log_temperature.exp().float()
    return vectors @ table.T


def plain_loss(model: Recommender, size: Size, phase: Phase, batch: tuple[Any, Any, Any]) -> Any:
    """The same loss with topk, a slice, a gather and torch's cross-entropy."""
    items, lengths, targets = batch
    student, teacher = model.network(phase.train), model.network(phase.teacher or "")
    start, stop = size.window
    with torch.no_grad():
        scores = plain_scores(teacher, items, lengths, teacher.item_tables().outputs)
        scores.scatter_(1, targets[:, None], -torch.inf)
        hard = scores.topk(stop, dim=1).indices[:, start:]
    scores = plain_scores(student, items, lengths, student.item_tables().outputs)
    logits = scores.gather(1, torch.cat([targets[:, None], hard], 1))
    return F.cross_entropy(logits, torch.zeros(len(targets), dtype=torch.int64))


def plain_batch(batch: Batch) -> tuple[Any, Any, Any]:
    """A batch padded to 50."""
    padded = np.zeros((len(batch.lengths), MAX_LEN), np.int64)
    padded[:, : batch.items.shape[1]] = batch.items
    return torch.from_numpy(padded), torch.from_numpy(batch.lengths), torch.from_numpy(batch.targets)


def optimisers(model: Recommender) -> dict[str, torch.optim.Adam]:
    """One Adam optimiser per network."""
    return {
        name: torch.optim.Adam(model.network(name).parameters(), lr=1e-4, fused=True)
        for name in model.networks
    }


class Sides:
    """Both versions of a step, on batches of the same samples."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self.model, self.recipe = system(size)
        self.optimisers = optimisers(self.model)
        sessions = store(size)
        self.batches = list(PrefixBatches(sessions, 512, MAX_LEN, seed=1, layout="by_session"))[:4]
        pairs = [
            np.column_stack([b.sessions, b.samples - sessions.offsets[b.sessions]]) for b in self.batches
        ]
        self.padded = [
            plain_batch(next(iter(PrefixBatches(sessions, 512, MAX_LEN, shuffle=False, samples=pair))))
            for pair in pairs
        ]
        self.buffer = ScoreBuffer()
        self.turn = 0

    def step_of(self, phase: Phase, clock: Clock) -> Step:
        """The object that our steps of an epoch share."""
        return Step(
            self.model,
            self.recipe,
            phase,
            self.size.items,
            exclude_seen=False,
            seed=0,
            buffer=self.buffer,
            clock=clock,
        )

    def ours(self, step: Step) -> None:
        """Run one step of ours."""
        self.turn += 1
        self._learn(step.phase, step.loss(self.batches[self.turn % 4]))

    def plain(self, phase: Phase) -> None:
        """Run one plain PyTorch step."""
        self.turn += 1
        self.model.network(phase.train).train()
        self._learn(phase, plain_loss(self.model, self.size, phase, self.padded[self.turn % 4]))

    def _learn(self, phase: Phase, loss: Any) -> None:
        self.optimisers[phase.train].zero_grad(set_to_none=True)
        loss.backward()
        self.optimisers[phase.train].step()

    def assert_equal(self, phase: Phase) -> None:
        """Assert that loss and gradients of both sides are equal."""
        parameters = list(self.model.network(phase.train).parameters())
        losses = [
            self.step_of(phase, NoClock()).loss(self.batches[0]),
            plain_loss(self.model, self.size, phase, self.padded[0]),
        ]
        torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-5)
        ours, plain = (torch.autograd.grad(loss, parameters) for loss in losses)
        for left, right in zip(ours, plain, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-3, atol=2e-3 * float(right.abs().max()))


def head(size: Size) -> None:
    """Compare teacher, window and loss with both gradients with their four matrix products."""
    rng = torch.Generator().manual_seed(0)
    vectors, judged = (torch.randn(512, size.dim, generator=rng) for _ in range(2))
    table, judging = (torch.randn(size.items, size.dim, generator=rng) / size.dim**0.5 for _ in range(2))
    targets = torch.randint(0, size.items, (512, 1), generator=rng)
    vectors.requires_grad_()
    table.requires_grad_()
    buffer, one = ScoreBuffer(), torch.ones(1)
    out, out_vectors, out_table = (
        torch.empty(512, size.items),
        torch.empty(512, size.dim),
        torch.empty_like(judging),
    )

    def ours() -> None:
        with torch.no_grad():
            bits = ranking.rank_window_bits(buffer.product(judged, judging), *size.window, exclude=targets)
        loss = candidate_cross_entropy(vectors, table, targets, one, bits, buffer=buffer)
        torch.autograd.grad(loss, (vectors, table))

    def products() -> None:
        with torch.no_grad():
            torch.mm(judged, judging.T, out=out)
            torch.mm(vectors, table.T, out=out)
            torch.mm(out, table, out=out_vectors)
            torch.mm(out.T, vectors, out=out_table)

    def whole() -> None:
        loss = candidate_cross_entropy(vectors, table, targets, one, None, buffer=buffer)
        torch.autograd.grad(loss, (vectors, table))

    def library() -> None:
        options = {}
        if hasattr(F, "LinearCrossEntropyOptions"):
            options = {"options": F.LinearCrossEntropyOptions()}
        torch.autograd.grad(
            F.linear_cross_entropy(vectors, table, targets[:, 0], **options), (vectors, table)
        )

    def three_products() -> None:
        with torch.no_grad():
            torch.mm(vectors, table.T, out=out)
            torch.mm(out, table, out=out_vectors)
            torch.mm(out.T, vectors, out=out_table)

    def plain() -> None:
        torch.autograd.grad(F.cross_entropy(vectors @ table.T, targets[:, 0]), (vectors, table))

    jobs: dict[str, timing.Job] = {
        "ours": ours,
        "products": products,
        "whole": whole,
        "three": three_products,
        "plain": plain,
        "library": library,
    }
    if not hasattr(F, "linear_cross_entropy"):
        del jobs["library"]
    seconds = timing.rounds(jobs, size.rounds)
    print(f"\nhead, 512 samples, {size.items} items, d {size.dim}")
    timing.share("teacher + window + loss, x four products", seconds["ours"], seconds["products"], 1.25, 1.08)
    timing.share("loss over the catalogue, x three products", seconds["whole"], seconds["three"], 1.25, 1.08)
    timing.share("torch cross_entropy, x three products", seconds["plain"], seconds["three"], 9, 9)
    if "library" in jobs:
        timing.share("torch linear_cross_entropy, x three", seconds["library"], seconds["three"], 9, 9)


def query_batch(size: Size) -> tuple[QueryBatch, Any, Any]:
    """Queries of 512 samples (their distinct items and their session vectors), item vectors and targets."""
    network = queried(size).network("model")
    arrays = next(iter(PrefixBatches(store(size), 512, MAX_LEN, seed=1, layout="by_session")))
    batch = SessionBatch.of(arrays, "cpu")
    with torch.no_grad():
        tables = network.item_tables()
        queries = network.ask(batch, tables)
    rng = np.random.default_rng(0)
    targets = torch.from_numpy(rng.integers(0, size.items, (len(batch.length_N), 1)))
    queries = queries._replace(
        vectors_QD=queries.vectors_QD.detach().requires_grad_(),
        log_weights_NJ=queries.log_weights_NJ.detach(),
    )
    return queries, tables.outputs.detach().requires_grad_(), targets


def queried(size: Size) -> Recommender:
    """An ID network of width d whose queries are the items and the recency vector of a prefix."""
    recipe = resolve("id_only", overrides={"model.dim": size.dim, "id.table_dropout": 0.0})
    torch.manual_seed(0)
    inputs = ModelInputs(size.items, None, torch.ones(size.items, dtype=torch.bool))
    return build_model(recipe, inputs)


def dense_mixture_loss(queries: QueryBatch, table: Any, targets: Any) -> Any:
    """The loss of a mixture as torch computes it from the softmaxes of all queries."""
    vectors, rows, log_weights, exclude = queries
    scores = vectors @ table.T
    if exclude is not None:
        row, column = (exclude >= 0).nonzero(as_tuple=True)
        scores = scores.index_put((row, exclude[row, column]), torch.tensor(-torch.inf))
    own = scores.log_softmax(1)[rows.clamp(min=0), targets]
    return -(own.masked_fill(rows < 0, -torch.inf) + log_weights).logsumexp(1).mean()


def query_head(size: Size) -> None:
    """Compare the loss of a mixture of softmaxes, with its gradients, with its three matrix products."""
    queries, table, targets = query_batch(size)
    one, buffer = torch.ones(1), ScoreBuffer()
    wanted = (queries.vectors_QD, table)

    def ours() -> Any:
        loss = mixture_cross_entropy(queries, table, targets, one, buffer=buffer)
        return loss, *torch.autograd.grad(loss, wanted)

    def plain() -> Any:
        loss = dense_mixture_loss(queries, table, targets)
        return loss, *torch.autograd.grad(loss, wanted)

    for left, right in zip(ours(), plain(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-3, atol=2e-3 * float(right.detach().abs().max()))
    rows, vectors = len(queries.vectors_QD), queries.vectors_QD.detach()
    held = table.detach()
    out, out_vectors, out_table = (
        torch.empty(rows, size.items),
        torch.empty(rows, size.dim),
        torch.empty_like(held),
    )

    def products() -> None:
        torch.mm(vectors, held.T, out=out)
        torch.mm(out, held, out=out_vectors)
        torch.mm(out.T, vectors, out=out_table)

    seconds = timing.rounds({"ours": ours, "products": products, "plain": plain}, size.rounds)
    print(f"\nqueries, 512 samples, {rows} queries, {size.items} items, d {size.dim}")
    timing.share("loss of a mixture, x three products", seconds["ours"], seconds["products"], 1.15, 1.1)
    timing.share("plain torch, x three products", seconds["plain"], seconds["products"], 9, 9)


def steps(sides: Sides) -> None:
    """Time whole steps of both phases."""
    for phase in PHASES:
        sides.assert_equal(phase)
        step = sides.step_of(phase, NoClock())
        seconds = timing.rounds(
            {"ours": lambda s=step: sides.ours(s), "plain": lambda p=phase: sides.plain(p)}, sides.size.rounds
        )
        ours, plain = (np.median(seconds[side]) for side in ("ours", "plain"))
        print(f"\n{phase.name}: ours {ours:.2f} s, plain {plain:.2f} s")
        timing.line("plain PyTorch step", seconds["ours"], seconds["plain"], 8, 12)
        clock = Clock()
        step = sides.step_of(phase, clock)
        clock.start()
        for _ in range(3):
            clock.lap("waiting for data")
            step.loss(sides.batches[0]).backward()
            clock.lap("item table")
            sides.optimisers[phase.train].step()
            clock.lap("optimiser")
        print("  " + ", ".join(f"{part} {spent / 3:.2f} s" for part, spent in clock.seconds.items()))


def evaluation(size: Size) -> None:
    """Compare the evaluation of three views with the two scoring products."""
    rng = np.random.default_rng(1)
    # The session encoder is the mean, the paper's ID encoder, so that scoring and counting dominate.
    model, _ = system(size, session="mean")
    model = model.eval()
    lengths = np.full(size.targets, 5)
    items = rng.integers(0, size.items, lengths.sum())
    sessions = SessionStore.from_arrays(
        np.repeat(np.arange(size.targets), lengths), items, num_items=size.items
    )
    protocol = Protocol("last", "kept", MAX_LEN)
    with torch.inference_mode():
        tables = model.prepare()
    vectors = torch.randn(size.targets, size.dim)
    out = torch.empty(512, size.items)

    def products() -> None:
        with torch.inference_mode():
            for name in model.networks:
                for chunk in vectors.split(512):
                    torch.mm(chunk, tables[name].outputs.T, out=out[: len(chunk)])

    seconds = timing.rounds(
        {"ours": lambda: evaluate(model, sessions, protocol), "products": products}, min(3, size.rounds)
    )
    print(f"\nevaluation, {size.targets} targets, three views: {np.median(seconds['ours']):.2f} s")
    timing.share("x the scoring products", seconds["ours"], seconds["products"], 1.25, 1.1)


def query_evaluation(size: Size) -> None:
    """Compare an evaluation of a network with queries with the scoring products of its queries."""
    rng = np.random.default_rng(1)
    lengths = np.full(size.targets, 5)
    items = rng.integers(0, size.items, lengths.sum())
    sessions = SessionStore.from_arrays(
        np.repeat(np.arange(size.targets), lengths), items, num_items=size.items
    )
    model, protocol = queried(size).eval(), Protocol("last", "excluded", MAX_LEN)
    with torch.inference_mode():
        tables = model.prepare()
    # The session vector of each prefix, and the distinct items among its four.
    count = size.targets + len(np.unique(items.reshape(-1, 5)[:, :4]))
    vectors, out = torch.randn(count, size.dim), torch.empty(512, size.items)

    assert_mixture_scores(model, sessions, tables["model"])

    def ours() -> None:
        evaluate(model, sessions, protocol)

    def products() -> None:
        with torch.inference_mode():
            for begin in range(0, count, 512):
                chunk = vectors[begin : begin + 512]
                torch.mm(chunk, tables["model"].outputs.T, out=out[: len(chunk)])

    seconds = timing.rounds({"ours": ours, "products": products}, min(3, size.rounds))
    print(f"\nevaluation with queries, {size.targets} prefixes: {np.median(seconds['ours']):.2f} s")
    timing.share("x the scoring products", seconds["ours"], seconds["products"], 1.3, 1.15)


def assert_mixture_scores(model: Recommender, sessions: SessionStore, tables: Tables) -> None:
    """Assert that the scores of some prefixes are the logs of the weighted sums of their softmaxes."""
    samples = np.column_stack([np.arange(64), np.full(64, 4)])
    arrays = next(iter(PrefixBatches(sessions, 64, MAX_LEN, shuffle=False, samples=samples)))
    batch, network = SessionBatch.of(arrays, "cpu"), model.network("model")
    with torch.inference_mode():
        vectors, rows, log_weights, exclude = network.ask(batch, tables)
        assert exclude is not None
        scores = vectors @ tables.outputs.T
        row, column = (exclude >= 0).nonzero(as_tuple=True)
        scores[row, exclude[row, column]] = -torch.inf
        expected = (scores.softmax(1)[rows.clamp(min=0)] * log_weights.exp()[..., None]).sum(1).log()
        torch.testing.assert_close(network.scores(batch, tables), expected, rtol=0, atol=1e-4)


def memory(side: str, size: Size) -> None:
    """Print the peak memory that a step adds; runs in a separate process."""
    sides = Sides(size)
    for optimiser in sides.optimisers.values():
        for group in optimiser.param_groups:
            for value in group["params"]:
                value.grad = torch.zeros_like(value)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    step = sides.step_of(PHASES[0], NoClock()) if side == "ours" else None
    # One small product of each kind loads the pages of the libraries, which do not belong to a step.
    F.cross_entropy(
        torch.randn(2, 5, requires_grad=True) @ torch.randn(5, 5), torch.tensor([0, 1])
    ).backward()
    # Reset the peak, VmHWM.
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = memory_line("VmRSS")
    for _ in range(2):
        sides.ours(step) if step else sides.plain(PHASES[0])
    print(memory_line("VmHWM") - before)


def memory_line(name: str) -> int:
    """Bytes of this process as Linux reports them: VmRSS is the current value, VmHWM the peak."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", choices=["ours", "plain"])
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    torch.set_num_threads(options.threads)
    ranking.set_threads(options.threads)
    if options.memory:
        memory(options.memory, size)
        return
    print(f"{timing.machine()}; torch {torch.__version__}, {options.threads} threads")
    head(size)
    query_head(size)
    sides = Sides(size)
    steps(sides)
    evaluation(size)
    query_evaluation(size)
    print("\nmemory of a step beyond weights, moments and data")
    for side in ("ours", "plain"):
        given = [sys.executable, __file__, "--memory", side, "--threads", str(options.threads)]
        answer = subprocess.run(
            [*given, *(["--quick"] if options.quick else [])], check=True, capture_output=True, text=True
        )
        print(f"  {side:46} {int(answer.stdout) / 2**20:7.0f} MiB")


if __name__ == "__main__":
    main()
