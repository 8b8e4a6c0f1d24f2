"""A gate run: every item is proven, in this process or in several, and judged. What is proven is kept at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

from lipcert.errors import UsageError
from lipcert.gate.baseline import UPDATE, Entry, read_baseline, write_baseline
from lipcert.gate.cache import Cache
from lipcert.gate.items import Item, items_of, selected
from lipcert.gate.policy import Policy
from lipcert.gate.proofs import Proof, Prover
from lipcert.gate.verdicts import GateRun, judge, unfinished

INTERRUPTED = "interrupted before it was proven: run again, what is proven is kept"

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

OnDone = Callable[[Item, Proof], None]


def run_gate(
    policy: Policy,
    *,
    select: Sequence[str] = (),
    cache: Path | None = None,
    jobs: int = 1,
    offline: bool = False,
    update_baseline: bool = False,
    on_done: OnDone = lambda item, proof: None,
) -> GateRun:
    """Prove and judge what the policy asks, or the `select`ed part of it.

    `offline` only checks kept certificates. `update_baseline` writes the bounds that are proven, and then compares with
    them. Ctrl-C ends the run: what was not come to is inconclusive. UsageError where the policy is at fault.
    """
    began = time.monotonic()
    every = items_of(policy)
    items = selected(every, select) if select else every
    before = read_baseline(policy.baseline)
    if before is None and not update_baseline and any(item.check.max_increase is not None for item in items):
        raise UsageError(f"baseline: {policy.baseline}: there is no such file", hint=UPDATE)
    kept = Cache(policy.cache if cache is None else cache)
    if not offline:
        kept.open()
    proofs = prove_all(items, kept, offline, jobs, on_done)
    entries = before or {}
    if update_baseline:
        entries = updated(entries, every, proofs)
        write_baseline(policy.baseline, entries)
    results = tuple(judge(item, proofs[item.id], entries.get(item.id)) for item in items)
    return GateRun(policy.path.resolve(), repository(policy.root.folder), results, time.monotonic() - began)


def updated(before: Mapping[str, Entry], every: Sequence[Item], proofs: Mapping[str, Proof]) -> dict[str, Entry]:
    """The baseline with what is proven now, and without what the policy no longer asks."""
    entries = {item.id: before[item.id] for item in every if item.id in before}
    for name, proof in proofs.items():
        if proof.upper is not None:
            entries[name] = Entry.of(proof.upper, proof.query)
    return entries


def repository(folder: Path) -> Path:
    """The root of the repository that holds a folder; the folder itself where there is none."""
    return next((place for place in (folder, *folder.parents) if (place / ".git").exists()), folder)


def prove_all(items: Sequence[Item], cache: Cache, offline: bool, jobs: int, on_done: OnDone) -> dict[str, Proof]:
    """Proofs by the id of their item; unfinished ones where Ctrl-C ended the run."""
    proofs: dict[str, Proof] = {}
    found = _one_by_one if min(jobs, len(items)) <= 1 else _side_by_side
    try:
        for item, proof in found(items, cache, offline, jobs):
            proofs[item.id] = proof
            on_done(item, proof)
    except KeyboardInterrupt:
        pass  # the rest is unfinished
    return {**unfinished(items, INTERRUPTED), **proofs}


def _one_by_one(items: Sequence[Item], cache: Cache, offline: bool, jobs: int) -> Iterator[tuple[Item, Proof]]:
    prover = Prover(cache, offline)
    for item in items:
        yield item, prover.prove(item)


def _side_by_side(items: Sequence[Item], cache: Cache, offline: bool, jobs: int) -> Iterator[tuple[Item, Proof]]:
    others = multiprocessing.active_children()
    with _one_thread_each():
        pool = ProcessPoolExecutor(
            min(jobs, len(items)),
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(cache, offline),
        )
        waiting: dict[Future[Proof], Item] = {pool.submit(_prove, item): item for item in items}
        try:
            for done in as_completed(waiting):
                yield waiting[done], _proof_of(done)
        except BaseException:
            for process in multiprocessing.active_children():
                if process not in others:
                    process.kill()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _proof_of(done: Future[Proof]) -> Proof:
    try:
        return done.result()
    except BrokenProcessPool:
        return Proof("error", note="its process was killed (is there memory for so many --jobs?)", exit_status=2)


_prover: Prover | None = None
"""Of a process of the pool."""


def _begin(cache: Cache, offline: bool) -> None:
    """Ctrl-C is the parent's to handle; and a process whose parent was killed ends."""
    global _prover  # noqa: PLW0603
    _prover = Prover(cache, offline)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _prove(item: Item) -> Proof:
    assert _prover is not None
    return _prover.prove(item)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes that start meanwhile share the cores already."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
