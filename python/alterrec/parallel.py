"""What the processes of a training share: plain collectives, which do nothing where there is one process.

Every function is called by all processes in the same order; only ``send_to_first`` and ``received`` concern
two of them.

Legend: N samples of the whole batch, M those of one process, D width.
"""

from __future__ import annotations

import atexit
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from alterrec.errors import PeerError
from alterrec.job import Job, current_job

T = TypeVar("T")
ErrorT = TypeVar("ErrorT", bound=BaseException)

# A collective waits this long for the others: the first process may read data or write a report meanwhile.
TIMEOUT = timedelta(hours=2)

_job = Job()


@contextmanager
def joined_job(device: str = "cpu") -> Iterator[Job]:
    """Join the job that torchrun started, if there is one, until the end of a ``with`` block.

    Args:
        device: torch device of the tensors that are shared: gloo for the CPU, nccl for CUDA.
    """
    global _job
    job = current_job()
    if job.world == 1 or _job.world > 1:
        yield _job
        return
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.set_device(job.local_rank)
    if not dist.is_initialized():
        # Objects are shared through the memory of the host.
        backend = "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo"
        store = _store_of_attempt(job)
        dist.init_process_group(backend, store=store, rank=job.rank, world_size=job.world, timeout=TIMEOUT)
        # Not before: a group cannot be joined again under the same names, and a process may train twice.
        atexit.register(dist.destroy_process_group)
    _job = job
    try:
        yield job
        with _peers():
            dist.barrier()
    finally:
        _job = Job()


def _store_of_attempt(job: Job) -> Any:
    """Return the key-value store through which the processes find each other.

    torchrun keeps its store when it starts the processes again, with the addresses of those that have ended.
    """
    store, _, _ = next(rendezvous("env://", timeout=TIMEOUT))
    # The launchers of several machines can have counted other numbers of restarts.
    if os.environ.get("LOCAL_WORLD_SIZE") == str(job.world):
        return dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)  # type: ignore[attr-defined]
    return store


def job() -> Job:
    """Return the place of this process in the job that it takes part in."""
    return _job


def share(count: int, rank: int | None = None) -> slice:
    """Return the slice of the ``count`` samples of a batch that belongs to a process, by default to this one.

    Slices follow each other in the order of the processes and differ by at most one in length. A batch with
    fewer samples than processes is not divided: all of them compute it, so none has a step without samples.

    Example:
        >>> share(5)
        slice(0, 5, None)
    """
    if count < _job.world:
        return slice(0, count)
    rank = _job.rank if rank is None else rank
    return slice(count * rank // _job.world, count * (rank + 1) // _job.world)


def weight(count: int) -> float:
    """Return the weight of the mean over this process's :func:`share` in the mean over ``count`` samples.

    Example:
        >>> weight(5)
        1.0
    """
    if count < _job.world:
        return 1 / _job.world
    mine = share(count)
    return len(range(count)[mine]) / count


def mean_of_all(mean: Tensor, own: int, count: int) -> Tensor:
    """Rescale a mean over ``own`` values, so that :func:`weight` makes it a mean over those of all processes.

    Args:
        mean: the mean over some values of the samples of this process, such as masked items.
        own: how many these are.
        count: number of samples of the batch.

    Example:
        >>> mean_of_all(torch.tensor(2.0), 7, 3)
        tensor(2.)
    """
    if _job.world == 1 or count < _job.world:
        return mean
    total = add_up(torch.tensor(float(own), dtype=torch.float64, device=mean.device))
    return mean * (own / (total * weight(count)).clamp(min=1e-300)).to(mean)


def add_up(values: Tensor) -> Tensor:
    """Replace values by their sum over all processes, the same to the last bit in each, and return them."""
    if _job.world > 1:
        with _peers():
            dist.all_reduce(values)
    return values


def from_first(make: Callable[[], T]) -> T:
    """Call a function in the first process, and return its result or raise its exception in all processes.

    Example:
        >>> from_first(lambda: 3)
        3
    """
    if _job.world == 1:
        return make()
    message: list[Any] = [None]
    if _job.is_first:
        try:
            message = [(make(), None)]
        except PeerError:
            raise
        except BaseException as error:
            message = [(None, _portable(error))]
    with _peers():
        dist.broadcast_object_list(message, src=0)
    value, raised = message[0]
    if raised is not None:
        raise raised
    return value  # type: ignore[no-any-return]


def _portable(error: ErrorT) -> ErrorT | RuntimeError:
    """Return an exception as another process can have it: itself, if it can be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def in_each(make: Callable[[], T]) -> T:
    """Call a function in every process, and return its result or raise what it raises in any of them.

    Example:
        >>> in_each(lambda: 3)
        3
    """
    own: list[T] = []

    def made() -> Sequence[None]:
        own.append(make())
        return ()

    in_order(made)
    return own[0]


def send_to_first(values: Tensor) -> None:
    """Send a tensor of the CPU to the first process, which calls :func:`received` meanwhile."""
    with _peers():
        dist.send(values, 0)


def received(values: Tensor, rank: int) -> Tensor:
    """Replace values of the CPU by those that process ``rank`` sends to the first one, and return them."""
    with _peers():
        dist.recv(values, rank)
    return values


def of_each(number: int) -> Sequence[int]:
    """Return the numbers that the processes give, in their order.

    Example:
        >>> of_each(7)
        [7]
    """
    numbers = torch.zeros(_job.world, dtype=torch.int64)
    numbers[_job.rank] = number
    return list(map(int, add_up(numbers).tolist()))


def rows_of_each(*columns: Tensor) -> list[list[Tensor]]:
    """Return for each column the rows of every process, in their order; each has any number of rows.

    Args:
        columns: tensors of as many rows, (U, ...).

    Example:
        >>> rows_of_each(torch.tensor([4, 2]))
        [[tensor([4, 2])]]
    """
    if _job.world == 1:
        return [[column] for column in columns]
    sizes = of_each(len(columns[0]))
    found = []
    for own in columns:
        # Collectives take equal shapes.
        padded = own.new_zeros(max(sizes), *own.shape[1:])
        padded[: len(own)] = own
        rows = [torch.empty_like(padded) for _ in sizes]
        with _peers():
            dist.all_gather(rows, padded)
        found.append([row[:size] for row, size in zip(rows, sizes, strict=True)])
    return found


def turns(count: int) -> range:
    """Return the numbers of those of ``count`` pieces of work that belong to this process.

    Example:
        >>> list(turns(3))
        [0, 1, 2]
    """
    return range(_job.rank, count, _job.world)


def in_order(make: Callable[[], Sequence[T]], *, parts: bool = False) -> Sequence[T]:
    """Return the results of the :func:`turns` of all processes, in the order of their numbers.

    Args:
        make: returns the results of this process. What it raises in one process is raised in all of them.
        parts: whether every process has a part of each piece of work instead. Default: False.

    Example:
        >>> in_order(lambda: [5, 3])
        [5, 3]
    """
    if _job.world == 1:
        return make()
    own: tuple[Sequence[T], Exception | None]
    try:
        own = make(), None
    except PeerError:
        raise
    except Exception as error:
        own = (), _portable(error)
    found: list[Any] = [None] * _job.world
    with _peers():
        dist.all_gather_object(found, own)
    for _, raised in found:
        if raised is not None:
            raise raised
    results = [each for each, _ in found]
    if parts:
        return [part for piece in zip(*results, strict=True) for part in piece]
    return [results[k % _job.world][k // _job.world] for k in range(sum(map(len, results)))]


def joined(vectors_MD: Tensor, count: int) -> Tensor:
    """Return the vectors (N, D) of the samples of all processes, with a gradient.

    Each process has those of its :func:`share`, so all know the sizes, and one collective suffices.

    Args:
        vectors_MD: the vectors of the samples of this process.
        count: number N of samples of all of them.

    Example:
        >>> joined(torch.ones(2, 3), 2).shape
        torch.Size([2, 3])
    """
    if count < _job.world or _job.world == 1:
        return vectors_MD
    vectors_ND: Tensor = _Joined.apply(vectors_MD, count)
    return vectors_ND


class _Joined(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors_MD: Tensor, count: int) -> Tensor:
        ctx.count = count
        vectors_ND = vectors_MD.new_zeros(count, *vectors_MD.shape[1:])
        vectors_ND[share(count)] = vectors_MD
        return add_up(vectors_ND)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return add_up(gradients[0].contiguous().clone())[share(ctx.count)], None


def gathered(values: Tensor) -> Tensor:
    """Return the values of all processes, in their order (W, ...).

    Example:
        >>> gathered(torch.tensor([4, 2]))
        tensor([[4, 2]])
    """
    if _job.world == 1:
        return values[None]
    found = values.new_empty(_job.world, *values.shape)
    with _peers():
        dist.all_gather(list(found.unbind()), values.contiguous())
    return found


def exchanged(rows_XD: Tensor, sent: Sequence[int], received: Sequence[int]) -> Tensor:
    """Send each process some rows, and return those that the processes send to this one, with a gradient.

    Args:
        rows_XD: rows of any shape, in the order of the processes that get them.
        sent: number of rows for each process.
        received: number of rows from each process.

    Returns:
        The received rows (Y, D), in the order of the processes that sent them.

    Example:
        >>> exchanged(torch.ones(2, 3), [2], [2]).shape
        torch.Size([2, 3])
    """
    if _job.world == 1:
        return rows_XD
    rows_YD: Tensor = _Exchanged.apply(rows_XD, list(sent), list(received))
    return rows_YD


class _Exchanged(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows_XD: Tensor, sent: list[int], received: list[int]) -> Tensor:
        ctx.sizes = sent, received
        rows_YD = rows_XD.new_empty(sum(received), *rows_XD.shape[1:])
        with _peers():
            dist.all_to_all_single(rows_YD, rows_XD.contiguous(), received, sent)
        return rows_YD

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        sent, received = ctx.sizes
        return exchanged(gradients[0], received, sent), None, None


@contextmanager
def _peers() -> Iterator[None]:
    """Turn what gloo and nccl raise where another process has ended into one error."""
    try:
        yield
    except RuntimeError as error:
        raise PeerError("another process of this job has ended") from error
