"""Damaged models, each imported in a process of its own: a model that agrees with onnxruntime, or one line.

A case is (base, edits, seed); `case(i)` is the i-th. `python -m tests.helpers.fuzzing FIRST COUNT` imports cases, and
`python -m tests.helpers.fuzzing --seeds` those of tests/frontend/fuzz_seeds, which once failed; one line of JSON each.
`--group` instead sums the failures up by cause, `--write FOLDER` writes the files, `--files PATHS` imports files.

The program loads the libraries once and forks for each case, so that a crash, a hang or a memory hog is that case's
own: what it takes is read from the kernel when it ends.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import importlib
import json
import os
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

import tests.helpers.fuzzing_data
import tests.helpers.fuzzing_structure  # noqa: F401  both are imported for the edits that they register
from tests.helpers import fuzzing_bases
from tests.helpers.fuzzing_bases import Draft
from tests.helpers.fuzzing_edits import BYTES, FIELDS, Nothing
from tests.helpers.paths import ROOT

SEEDS = ROOT / "tests" / "frontend" / "fuzz_seeds"

SECONDS = 8.0
"""Of processor time, for one import."""

MEMORY = 1024**3
"""Bytes beyond what the libraries take."""

ADDRESSES = 6 * 1024**3
"""Bytes of address space beyond it, so that a hog is stopped before the machine suffers."""

PATIENCE = 30.0
"""Seconds on the clock after which a case is killed: the machine may be busy with others."""

LONGEST = 1000
"""Characters of a message that one still reads."""


@dataclass(frozen=True)
class Case:
    """Which base, what is done to it, and the seed of the choices."""

    base: str
    edits: tuple[str, ...]
    seed: int

    @staticmethod
    def read(fields: dict[str, Any]) -> Case:
        return Case(fields["base"], tuple(fields["edits"]), fields["seed"])


def case(i: int) -> Case:
    """The i-th case: half of the bases are small networks, a third of the cases damage bytes."""
    random = np.random.default_rng(i)
    bases = fuzzing_bases.names()
    folder = random.choice(["models", "own", "own", "onnx"])
    base = str(random.choice([b for b in bases if b.startswith(f"{folder}/")]))
    if random.random() < 0.3:
        edits = [str(random.choice(sorted(BYTES)))]
    else:
        edits = [str(e) for e in random.choice(sorted(FIELDS), size=int(random.choice([1, 1, 1, 2, 3])))]
    return Case(base, tuple(edits), i)


def damaged(case: Case) -> tuple[bytes, Draft]:
    """The model file, and the draft that knows what lies beside it."""
    random = np.random.default_rng([case.seed, 1])
    draft = fuzzing_bases.base(case.base)
    for name in case.edits:
        if name in FIELDS:
            try:
                FIELDS[name](draft, random)
            except (Nothing, DecodeError):  # nested too deep for protobuf
                continue
    data = draft.proto.SerializeToString()
    for name in case.edits:
        if name in BYTES:
            data = BYTES[name](data, random)
    return data, draft


def write(case: Case, folder: Path) -> Path:
    """The model and what lies beside it."""
    data, draft = damaged(case)
    folder.mkdir(parents=True, exist_ok=True)
    for name, target in draft.links.items():
        (folder / name).symlink_to(target)
    for name, content in draft.files.items():
        (folder / name).write_bytes(content)
    path = folder / "model.onnx"
    path.write_bytes(data)
    return path


# ---------------------------------------------------------------------------- the process of one case


@dataclass
class Verdict:
    """What came of a case; `wrong` is empty where all is well."""

    case: Case | None
    outcome: str
    message: str = ""
    wrong: str = ""
    trace: str = ""
    seconds: float = 0.0
    mebibytes: float = 0.0


def judge(path: Path) -> dict[str, str]:
    """Import the file, and say what happened."""
    from lipcert.errors import LipcertError, ModelError
    from lipcert.frontend import load_file

    try:
        load_file(path)
    except LipcertError as error:
        message = str(error)
        found = {"outcome": type(error).__name__, "message": message[:LONGEST]}
        if not isinstance(error, ModelError) or error.exit_status != 3:
            return found | {"wrong": f"{type(error).__name__} has exit status {error.exit_status}"}
        if not message.isprintable():
            return found | {"wrong": "the message is no printable line"}
        if not message.startswith(f"{path}: "):
            return found | {"wrong": "the message does not begin with the file"}
        if len(message) > LONGEST:
            return found | {
                "wrong": f"the message has {'over 100,000' if len(message) > 100_000 else 'too many'} characters"
            }
        return found
    except BaseException as error:
        return {
            "outcome": "exception",
            "wrong": _cause(error),
            "trace": "".join(traceback.format_exception(error)[-4:]),
        }
    return {"outcome": "imported"}


def _cause(error: BaseException) -> str:
    """The kind of exception, and the last place of lipcert that it passed."""
    places = traceback.extract_tb(error.__traceback__)
    ours = [p for p in places if "/lipcert/" in p.filename]
    where = f"{Path(ours[-1].filename).name}:{ours[-1].name}" if ours else "outside lipcert"
    return f"{type(error).__name__} in {where}: {' '.join(str(error).split())[:120]}"


def _child(path: Path, answer: int, log: Path) -> None:
    """Judge in this process, and end it."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    faulthandler.enable(output)
    faulthandler.register(signal.SIGXCPU, output, chain=True)
    resource.setrlimit(resource.RLIMIT_CPU, (int(SECONDS) + 1, int(SECONDS) + 3))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit = _status("VmSize") + ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    os.write(answer, json.dumps(judge(path)).encode())
    os._exit(0)


def _status(name: str) -> int:
    """Bytes, from the kernel's account of this process."""
    line = next(s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


def examine(case: Case, folder: Path) -> Verdict:
    """Import one case in a fork of this process."""
    path = write(case, folder / "case")
    found = examine_file(path, folder)
    shutil.rmtree(folder / "case")
    found.case = case
    return found


def examine_file(path: Path, folder: Path) -> Verdict:
    """Import one file in a fork of this process, which writes what it says into the folder."""
    reader, writer = os.pipe()
    log, before = folder / "log", _status("VmRSS")
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _child(path, writer, log)
    os.close(writer)
    answer = _until_closed(reader, PATIENCE)
    if answer is None:
        os.kill(pid, signal.SIGABRT)  # faulthandler says where it was
    _, status, usage = os.wait4(pid, 0)
    said = log.read_text(errors="replace") if log.exists() else ""
    seconds, memory = usage.ru_utime + usage.ru_stime, 1024 * usage.ru_maxrss - before
    verdict = Verdict(None, "died", seconds=round(seconds, 2), mebibytes=round(memory / 2**20, 1))
    if answer:
        for key, value in json.loads(answer).items():
            setattr(verdict, key, value)
    _add_what_the_kernel_saw(verdict, status, said, timed_out=answer is None)
    return verdict


def _add_what_the_kernel_saw(verdict: Verdict, status: int, said: str, *, timed_out: bool) -> None:
    ended = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else ""
    if verdict.wrong:
        return
    if timed_out or ended == "SIGXCPU" or verdict.seconds > SECONDS:
        verdict.wrong = f"takes more than {SECONDS:.0f} s{_last_place(said)}"
    elif ended:
        verdict.wrong = f"dies of {ended}{_last_place(said)}"
    elif verdict.mebibytes > MEMORY / 2**20:
        verdict.wrong = f"takes more than {MEMORY / 2**30:.0f} GiB"
    elif said.strip():
        verdict.wrong = "prints something"
    if verdict.wrong and said:
        verdict.trace = said[:2000]


def _last_place(dump: str) -> str:
    """Where in lipcert the process was, from faulthandler's dump."""
    found = re.search(r'/lipcert/\S*?(\w+\.py)", line \d+ in (\w+)', dump)
    return f" in {found[1]}:{found[2]}" if found else ""


def _until_closed(reader: int, patience: float) -> bytes | None:
    """What comes through a pipe until its other end closes; None where that takes too long."""
    data, deadline = b"", time.monotonic() + patience
    with os.fdopen(reader, "rb", buffering=0) as stream:
        while True:
            ready, _, _ = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            part = stream.read(65536)
            if not part:
                return data
            data += part


# ---------------------------------------------------------------------------- many cases


def verdicts(cases: Iterable[Case]) -> Iterator[Verdict]:
    """Each case in its own process; the libraries are loaded here, once."""
    _load_everything()
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            yield examine(case, Path(folder))


def verdicts_of_files(paths: Iterable[Path]) -> Iterator[Verdict]:
    """The same for files that lie somewhere."""
    _load_everything()
    with tempfile.TemporaryDirectory() as folder:
        for path in paths:
            yield examine_file(path, Path(folder))


def _load_everything() -> None:
    for name in ("onnx.reference", "onnx_ir.passes.common", "onnxruntime"):
        importlib.import_module(name)
    from lipcert.errors import LipcertError
    from lipcert.frontend import load_proto

    # As in the tests: a warning that points at our own code is an error.
    warnings.simplefilter("ignore")
    warnings.filterwarnings("error", module=r"lipcert(\.|$)")
    for name in fuzzing_bases.names():
        if name.startswith("own/"):
            draft = fuzzing_bases.base(name)
            try:
                load_proto(draft.proto, check=False)  # no onnxruntime session: its threads do not survive a fork
            except LipcertError:
                continue
    gc.collect()
    gc.freeze()


def seeds() -> list[Case]:
    """The cases that once failed."""
    files = sorted(SEEDS.glob("*.json"))
    return [Case.read(fields) for path in files for fields in json.loads(path.read_text(encoding="utf-8"))]


def grouped(found: Iterable[Verdict]) -> str:
    """Failures by cause, and how the cases came out."""
    outcomes: dict[str, int] = {}
    causes: dict[str, list[Verdict]] = {}
    for verdict in found:
        outcomes[verdict.outcome] = outcomes.get(verdict.outcome, 0) + 1
        if verdict.wrong:
            causes.setdefault(verdict.wrong, []).append(verdict)
    lines = [str(outcomes)]
    for cause, members in sorted(causes.items(), key=lambda item: -len(item[1])):
        lines.append(f"{len(members)} x {cause}")
        for verdict in members[:3]:
            case, trace = verdict.case, verdict.trace.strip().splitlines()
            tail = trace[:9] if verdict.outcome == "died" else trace[-6:]
            lines.append(
                f"    {case.base} {'+'.join(case.edits)} {case.seed}: {verdict.seconds} s, {verdict.mebibytes} MiB"
            )
            lines.append(f"        {verdict.message[:200]}")
        lines += [f"        {line[:160]}" for line in tail]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("first", type=int, nargs="?", default=0)
    parser.add_argument("count", type=int, nargs="?", default=2000)
    parser.add_argument("--seeds", action="store_true")
    parser.add_argument("--files", type=Path, nargs="+", default=[])
    parser.add_argument("--group", action="store_true")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    chosen = seeds() if options.seeds else [case(i) for i in range(options.first, options.first + options.count)]
    if options.files:
        for verdict in verdicts_of_files(options.files):
            print(json.dumps(asdict(verdict)), flush=True)
    elif options.write:
        for k, one in enumerate(chosen):
            print(write(one, options.write / str(k)))
    elif options.group:
        print(grouped(verdicts(chosen)))
    else:
        for verdict in verdicts(chosen):
            print(json.dumps(asdict(verdict)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
