"""The example of docs/training.md runs as it stands, and shows what the page says that it shows."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch

from tests.helpers.paths import ROOT

PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[float, dict[str, float]]:
    """What the page's only block of Python computes, with fewer epochs."""
    pytest.importorskip("sklearn")
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    shorter, replaced = re.subn(r"^EPOCHS = \d+$", "EPOCHS = 3", code, flags=re.MULTILINE)
    shorter, limited = re.subn(r"lipcert\.bound\(path\)", "lipcert.bound(path, timeout=5)", shorter)
    assert replaced == limited == 1
    folder: Path = tmp_path_factory.mktemp("training")
    (folder / "example.py").write_text(shorter, encoding="utf-8")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        patch.chdir(folder)
        try:
            found: dict[float, dict[str, float]] = runpy.run_path("example.py")["results"]
        finally:
            torch.set_num_threads(threads)
    return found


def test_the_penalty_lowers_the_certified_bound(results: dict[float, dict[str, float]]) -> None:
    plain, *penalised = (results[strength] for strength in sorted(results))
    assert penalised
    for one in penalised:
        assert one["certified"] < 0.8 * plain["certified"]
        assert one["test accuracy"] > 0.85


def test_no_attained_constant_exceeds_a_bound(results: dict[float, dict[str, float]]) -> None:
    for one in results.values():
        assert 0 < one["attained"] <= one["certified"]
        assert one["attained"] <= one["product"]


def test_the_table_has_the_penalties_of_the_code() -> None:
    strengths = re.search(r"^STRENGTHS = \((.*?)\)", PAGE, re.MULTILINE)
    assert strengths
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) \|.*\| ([\d.]+) \| ([\d.]+) \| [\d.]+ \|$", PAGE, re.MULTILINE)
    assert {float(row[1]) for row in rows} >= {float(word) for word in strengths[1].split(",")}
    assert all(float(attained) <= float(certified) for *_, certified, attained in rows)
