"""Recall and latency of vector indexes over the vectors of a run, against the exact product.

    python benches/vector_index.py RUN DATA

RUN is a run whose score is one inner product, DATA what it was trained on. Queries are the test sessions, one
at a time, on one thread. The product of the vectors is first compared with the scores of the package.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import faiss
import numpy as np
from usearch.index import Index

import alterrec
from alterrec.data.readers import load_dataset
from alterrec.exports.vectors import VectorSpace

K, ROUNDS = 20, 5


def main(run: str, source: str) -> None:
    saved, data = alterrec.load(run), load_dataset(source)
    space, ids = VectorSpace.of(saved), data.vocabulary.item_ids
    test = data.test
    sessions = [[ids[item] for item in test.session(place)[:-1]] for place in range(len(test))]
    began = time.perf_counter()
    queries = space.session_vectors(sessions)
    encoding = (time.perf_counter() - began) / len(sessions)
    vectors = space.items_VE
    scores = queries @ vectors.T
    for place in range(5):
        found = saved.score(sessions[place : place + 1], list(saved.vocabulary.item_ids))
        known = np.array([value for row in found for value in row], np.float64)
        finite = np.isfinite(known)
        assert np.allclose(scores[place][finite], known[finite], rtol=1e-5, atol=1e-5)
    exact = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    print(f"{len(vectors):,} items, {vectors.shape[1]} columns, {len(queries):,} sessions")
    print(f"session vectors, all at once: {1e6 * encoding:.0f} us per session")

    def product(query: np.ndarray) -> np.ndarray:
        values = vectors @ query
        best = np.argpartition(-values, K)[:K]
        return best[np.argsort(-values[best])]

    faiss.omp_set_num_threads(1)
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    graph = faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    graph.add(vectors)

    def faiss_search(index: faiss.Index) -> Callable[[np.ndarray], np.ndarray]:
        return lambda query: index.search(query[None], K)[1][0]

    report("exact, numpy", product, queries, exact)
    report("exact, faiss.IndexFlatIP", faiss_search(flat), queries, exact)
    for width in (16, 64, 256):
        graph.hnsw.efSearch = width
        report(f"faiss.IndexHNSWFlat 32, efSearch {width}", faiss_search(graph), queries, exact)
    for width in (64, 256):
        by_usearch = Index(ndim=vectors.shape[1], metric="ip", dtype="f32", expansion_search=width)
        by_usearch.add(np.arange(len(vectors)), vectors)
        report(
            f"usearch, expansion_search {width}",
            lambda query, index=by_usearch: index.search(query, K, threads=1).keys,
            queries,
            exact,
        )


def report(
    name: str, search: Callable[[np.ndarray], np.ndarray], queries: np.ndarray, exact: np.ndarray
) -> None:
    """Print the recall, and the median and the 99th percentile over sessions in the median round."""
    recall = np.mean(
        [len(set(search(query)) & set(best)) / K for query, best in zip(queries, exact, strict=True)]
    )
    medians, tails = [], []
    for _ in range(ROUNDS):
        times = []
        for query in queries:
            began = time.perf_counter()
            search(query)
            times.append(time.perf_counter() - began)
        medians.append(1e6 * np.median(times))
        tails.append(1e6 * np.quantile(times, 0.99))
    low, middle, high = (np.quantile(medians, share) for share in (0, 0.5, 1))
    spread = f"{middle:5.0f} us [{low:.0f}, {high:.0f}]"
    print(f"{name:40} recall@{K} {recall:.3f}  {spread}  p99 {np.median(tails):.0f} us")


if __name__ == "__main__":
    main(*sys.argv[1:])
