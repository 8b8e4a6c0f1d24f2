"""`lipcert gate`: verdicts and statuses, the baseline, kept certificates, processes and interruptions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from lipcert import api
from lipcert.gate import cache, proofs, run
from lipcert.gate.cache import Cache
from lipcert.gate.items import items_of
from lipcert.gate.policy import read_policy
from lipcert.gate.proofs import Prover
from tests.cli.test_template_option import BENT
from tests.gate.conftest import Gate, network, write_policy
from tests.helpers.onnx_models import model, save
from tests.helpers.processes import command_line, environment

CHECK = '[[check]]\nname = "global"\nmodels = "nets/*.onnx"\n'
LARGE, SMALL = "global:nets/large.onnx", "global:nets/small.onnx"


def entries(folder: Path) -> list[Path]:
    return sorted((folder / ".lipcert-cache").glob("*/*.json"))


@pytest.fixture
def no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks for a bound is at fault."""

    def searched(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a bound was searched for")

    monkeypatch.setattr(api, "bound", searched)


def test_verdicts_and_their_numbers(gate: Gate, repository: Path) -> None:
    done = gate()
    assert (done.status, done.verdicts) == (1, {LARGE: "fail", SMALL: "pass"})
    large = done.result(LARGE)
    assert large["attained"] <= large["bound"]
    assert (large["limit"], large["method"], large["cached"], large["status"]) == (5.0, "product", False, "certified")
    assert large["bound"] == api.bound("nets/large.onnx", method="product").upper
    assert api.check(large["certificate"], "nets/large.onnx").upper <= large["bound"]
    assert "2 questions: 1 passed, 1 failed; 0 from kept certificates" in done.out
    assert "\x1b" not in done.out
    assert gate("--exit-zero").status == 0


def test_whether_a_better_bound_could_pass(gate: Gate, repository: Path) -> None:
    upper = gate().result(LARGE)
    between = (upper["attained"] + upper["bound"]) / 2
    assert upper["attained"] < between < upper["bound"]
    write_policy(repository, f"{CHECK}max = {between}\n")
    assert "a tighter bound might pass" in gate().result(LARGE)["message"]
    write_policy(repository, f"{CHECK}max = {upper['attained'] * 0.99}\n")
    assert "no better bound can pass" in gate().result(LARGE)["message"]
    write_policy(repository, f"{CHECK}max = {upper['bound']!r}\n")
    assert gate().status == 0


def test_quiet_prints_what_does_not_pass(gate: Gate, repository: Path) -> None:
    done = gate("-q")
    assert [line.split(": ")[:2] for line in done.out.splitlines()] == [[LARGE, "fail"]]
    assert gate("-q", "--select", "nets/small.onnx").out == ""


def test_a_baseline_is_written_compared_with_and_updated(gate: Gate, repository: Path) -> None:
    write_policy(repository, f"{CHECK}max_increase = 0.1\n")
    assert "--update-baseline" in gate().error()
    assert gate("--update-baseline").status == 0
    path = repository / "lipcert-baseline.json"
    first = path.read_text()
    assert list(json.loads(first)["bounds"]) == [LARGE, SMALL]
    assert len(first.splitlines()) == 7
    done = gate("--update-baseline")
    assert (done.status, path.read_text()) == (0, first)
    assert done.result(SMALL)["baseline"] >= done.result(SMALL)["bound"]

    network(1.05, repository / "nets", "small.onnx")
    assert gate().status == 0
    network(2.0, repository / "nets", "small.onnx")
    done = gate()
    assert (done.status, done.verdicts) == (1, {LARGE: "pass", SMALL: "regressed"})
    assert "100 % above the baseline" in done.result(SMALL)["message"]
    assert "10 % are allowed" in done.result(SMALL)["message"]
    assert path.read_text() == first
    assert gate("--update-baseline", "--select", "nets/small.onnx").status == 0
    old, new = (json.loads(text)["bounds"] for text in (first, path.read_text()))
    assert new[LARGE] == old[LARGE]
    assert new[SMALL]["bound"] > 1.9 * old[SMALL]["bound"]
    assert gate().status == 0


def test_what_a_baseline_does_not_know(gate: Gate, repository: Path) -> None:
    write_policy(repository, f"{CHECK}max_increase = 0.1\n")
    gate("--update-baseline")
    network(1.0, repository / "nets", "third.onnx")
    done = gate()
    assert (done.status, done.verdicts["global:nets/third.onnx"]) == (2, "error")
    assert "the baseline does not have it" in done.result("global:nets/third.onnx")["message"]
    write_policy(repository, f'{CHECK}max_increase = 0.1\nnorm = "inf"\n')
    assert "another question under this name" in gate().result(SMALL)["message"]
    (repository / "nets" / "third.onnx").unlink()
    gate("--update-baseline")
    assert list(json.loads((repository / "lipcert-baseline.json").read_text())["bounds"]) == [LARGE, SMALL]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "not JSON"),
        ("[" * 10**5, "not JSON"),
        ("[]", "not a lipcert/baseline/1"),
        ('{"schema": "lipcert/baseline/2", "bounds": {}}', "not a lipcert/baseline/1"),
        ('{"schema": "lipcert/baseline/1", "bounds": {"a": {"bound": NaN, "query": "q"}}}', "not JSON"),
        ('{"schema": "lipcert/baseline/1", "bounds": {"a": {"bound": 1e999, "query": "q"}}}', "a: bound"),
        ('{"schema": "lipcert/baseline/1", "bounds": {"a": {"bound": true, "query": "q"}}}', "a: bound"),
        ('{"schema": "lipcert/baseline/1", "bounds": {"a": {"bound": 1, "query": 3}}}', "a: query"),
        ('{"schema": "lipcert/baseline/1", "bounds": {"a": 3}}', "a: bound"),
    ],
)
def test_a_hostile_baseline(gate: Gate, repository: Path, text: str, word: str) -> None:
    (repository / "lipcert-baseline.json").write_text(text)
    assert word in gate().error()
    assert entries(repository) == []


def test_unchanged_models_are_checked_and_not_bounded_again(
    gate: Gate, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = gate()
    asked: list[str] = []
    bound = api.bound
    monkeypatch.setattr(api, "bound", lambda model, **options: asked.append(model.path) or bound(model, **options))
    again = gate()
    assert asked == []
    assert all(result["cached"] for result in again.document["results"])
    same = ("id", "verdict", "bound", "attained", "certificate", "message", "query")
    for one, other in zip(first.document["results"], again.document["results"], strict=True):
        assert {key: one[key] for key in same} == {key: other[key] for key in same}

    network(3.0, repository / "nets", "large.onnx")
    changed = gate()
    assert asked == ["nets/large.onnx"]
    assert changed.status == 0
    write_policy(repository, f'{CHECK}max = 5\nnorm = "inf"\n')
    gate()
    write_policy(repository, f"{CHECK}max = 5\n", 'method = "product"\ntimeout = 9\n')
    gate()
    assert len(asked) == 5


def test_a_region_and_its_rows(gate: Gate, repository: Path) -> None:
    np.savetxt(repository / "points.csv", [[0, 1, 2, 3], [1, 0, 0, 1], [5, 5, 5, 5]], delimiter=",")
    region = 'norm = "inf"\ncenter = "points.csv"\nrows = "0:3"\neps = 0.1\n'
    write_policy(repository, f'[[check]]\nname = "near"\nmodels = "nets/small.onnx"\nmax = 9\n{region}', "")
    done = gate()
    assert (done.status, list(done.verdicts)) == (0, [f"near:nets/small.onnx:{row}" for row in range(3)])
    assert [result["row"] for result in done.document["results"]] == [0, 1, 2]
    np.savetxt(repository / "points.csv", [[0, 1, 2, 3], [7, 7, 7, 7], [5, 5, np.nan, 5]], delimiter=",")
    done = gate()
    assert [result["cached"] for result in done.document["results"]] == [True, False, False]
    assert (done.status, done.verdicts["near:nets/small.onnx:2"]) == (2, "error")
    assert done.result("near:nets/small.onnx:2")["message"].startswith("check 'near': center holds NaN or Inf")


def test_offline_only_checks(gate: Gate, repository: Path, no_search: None) -> None:
    done = gate("--offline-check")
    assert (done.status, set(done.verdicts.values())) == (4, {"inconclusive"})
    assert "run `lipcert gate`" in done.out
    assert not (repository / ".lipcert-cache").exists()


def test_offline_with_certificates(gate: Gate, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate()
    monkeypatch.setattr(api, "bound", None)
    assert gate("--offline-check").verdicts == {LARGE: "fail", SMALL: "pass"}
    path = repository / gate("--offline-check").result(SMALL)["certificate"]
    path.write_text(path.read_text().replace('"lipcert/report/1"', '"x"'))
    done = gate("--offline-check")
    assert (done.status, done.verdicts[SMALL]) == (1, "error")
    assert "lipcert/report/1" in done.result(SMALL)["message"]
    assert "--offline-check" in gate("--offline-check", "--update-baseline").error()


def tampered(text: str, how: str, other: str) -> str:
    data = json.loads(text)
    if how == "truncated":
        return text[: len(text) // 2]
    if how == "smaller":
        data["result"]["upper"] = data["certificate"]["value"] = 1e-3
        data["result"]["gap"] = 1e-3 / data["result"]["lower"]
    if how == "of another model":
        return other
    if how == "of another query":
        data["query"]["norm_in"] = "inf"
    if how == "uncertified":
        data["result"]["status"] = "inconclusive"
    return json.dumps(data)


@pytest.mark.parametrize("how", ["truncated", "smaller", "of another model", "of another query", "uncertified"])
def test_a_certificate_that_does_not_prove_its_bound_is_replaced(gate: Gate, repository: Path, how: str) -> None:
    done = gate()
    large, small = (repository / done.result(name)["certificate"] for name in (LARGE, SMALL))
    good = large.read_text()
    large.write_text(tampered(good, how, small.read_text()))
    again = gate()
    result = again.result(LARGE)
    assert (again.status, result["verdict"], result["cached"]) == (1, "fail", False)
    assert result["bound"] == done.result(LARGE)["bound"]
    assert again.result(SMALL)["cached"]
    assert gate().result(LARGE)["cached"]


def test_a_refused_certificate_is_mentioned(gate: Gate, repository: Path) -> None:
    (repository / gate().result(SMALL)["certificate"]).write_bytes(b"\xff\xff")
    done = gate()
    assert "the kept certificate was refused" in done.result(SMALL)["message"]
    assert f"{SMALL}: pass: the kept certificate was refused" in done.out


def test_inconclusive_passes_only_where_the_policy_says_so(
    gate: Gate, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lipcert.planning.solve import METHODS
    from tests.cli.test_main import Silent

    monkeypatch.setitem(METHODS, "product", Silent)
    done = gate()
    assert (done.status, set(done.verdicts.values())) == (4, {"inconclusive"})
    assert entries(repository) == []
    write_policy(repository, f"{CHECK}max = 5\nallow_inconclusive = true\n")
    done = gate("--update-baseline")
    assert (done.status, set(done.verdicts.values())) == (0, {"inconclusive"})
    assert "the policy allows that" in done.out
    assert json.loads((repository / "lipcert-baseline.json").read_text())["bounds"] == {}
    assert gate("--offline-check").status == 4  # nothing was tried: that is not what the policy allows


def test_one_bad_model_does_not_cost_the_others_their_verdicts(gate: Gate, repository: Path) -> None:
    (repository / "nets" / "bad.onnx").write_bytes(b"no model")
    done = gate()
    assert (done.status, list(done.verdicts.values())) == (3, ["error", "fail", "pass"])
    assert "nets/bad.onnx" in done.result("global:nets/bad.onnx")["message"]


def test_a_defect_of_a_method_is_an_error_of_its_item(
    gate: Gate, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("the upper bound is\x1b below")

    monkeypatch.setattr(proofs.api, "bound", broken)
    done = gate()
    assert (done.status, set(done.verdicts.values())) == (2, {"error"})
    assert r"internal error: RuntimeError: the upper bound is\x1b below" in done.result(SMALL)["message"]


def test_what_rests_on_templates_says_so(gate: Gate, repository: Path) -> None:
    (repository / "bent.toml").write_text(BENT)
    nodes = [helper.make_node("Bent", ["x"], ["y"], domain="com.example")]
    save(model(nodes, {"x": (1, 4)}, ["y"], domains={"com.example": 1}), repository / "nets", "small.onnx")
    write_policy(repository, f'{CHECK}max = 5\ntemplates = "bent.toml"\n'.replace("*", "small"), "")
    page = repository / "gate.html"
    for cached in (False, True):
        done = gate("--html", page)
        result = done.result(SMALL)
        assert (done.status, result["verdict"], result["cached"]) == (0, "pass", cached)
        assert result["status"] == "conditional"
        assert f"{SMALL}: pass: conditional" in done.out
        assert f"{SMALL}: conditional: proven if the templates are true" in page.read_text(encoding="utf-8")
    write_policy(repository, f'{CHECK}max = 0.5\ntemplates = "bent.toml"\n'.replace("*", "small"), "")
    done = gate("--html", page)
    assert done.status == 1
    assert "conditional: proven if the templates are true" in done.result(SMALL)["message"]
    (repository / "bent.toml").write_text(BENT.replace("0.22", "0.44").replace("1.1", "1.3"))
    assert not gate().result(SMALL)["cached"]


def test_strict_checks_in_ball_arithmetic(gate: Gate, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    check = api.check
    monkeypatch.setattr(
        api, "check", lambda report, model, strict: asked.append(strict) or check(report, model, strict=strict)
    )
    gate()
    write_policy(repository, f"{CHECK}max = 5\nstrict = true\n")
    assert gate().verdicts == {LARGE: "fail", SMALL: "pass"}
    assert asked == [False, False, True, True]


def test_ctrl_c_keeps_what_is_proven(gate: Gate, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prove = Prover.prove
    calls: list[str] = []

    def interrupted(self: Prover, item: Any) -> Any:
        calls.append(item.id)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return prove(self, item)

    monkeypatch.setattr(Prover, "prove", interrupted)
    done = gate()
    assert (done.status, done.verdicts) == (1, {LARGE: "fail", SMALL: "inconclusive"})
    assert "run again" in done.result(SMALL)["message"]
    assert [result["cached"] for result in gate().document["results"]] == [True, False]


def test_a_bound_that_ctrl_c_cut_short_is_not_kept(
    gate: Gate, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lipcert.planning.solve import METHODS
    from tests.cli.test_main import Interrupted

    monkeypatch.setitem(METHODS, "product", Interrupted)
    assert set(gate().verdicts.values()) == {"inconclusive"}
    assert entries(repository) == []


def test_entries_are_known_by_what_decides_the_answer(repository: Path) -> None:
    (item, *_) = items_of(read_policy(repository / "lipcert.toml"))
    prover = Prover(Cache(repository / "c"), offline=True)
    model = prover._load(item)
    query = prover._query(item, model)
    key = cache.entry_key(model, query, item.check.effort)
    assert cache.entry_key(model, query, item.check.effort) == key
    assert len(key) == 64


def test_files_that_killed_runs_left_are_removed_in_time(gate: Gate, repository: Path) -> None:
    gate()
    kept = entries(repository)[0]
    left = kept.parent / f".{kept.name}.tmp123"
    left.write_text("{")
    gate()
    assert left.exists()  # another run may be writing it
    os.utime(left, (0, 0))
    gate()
    assert not left.exists()
    assert (repository / ".lipcert-cache" / ".gitignore").read_text() == "*\n"


def test_what_no_run_asks_for_any_more_is_removed_in_time(gate: Gate, repository: Path) -> None:
    gate()
    asked, *_ = entries(repository)
    old, foreign = asked.with_name("0" * 64 + ".json"), asked.with_name("report.json")
    for path in (old, foreign):
        path.write_text("{}")
        os.utime(path, (0, 0))
    os.utime(asked, (time.time() - 50 * 86400,) * 2)
    gate()
    assert time.time() - asked.stat().st_mtime < 86400  # read, so that it stays
    assert asked.exists()
    assert not old.exists()
    assert foreign.exists()


def test_a_cache_that_cannot_be_used(gate: Gate, repository: Path) -> None:
    (repository / "taken").write_text("")
    assert "cache" in gate("--cache", repository / "taken").error()


def test_processes_share_a_cache_and_a_killed_one_loses_nothing(repository: Path, gate: Gate) -> None:
    """Two gates at once; that of two processes is killed as soon as something is kept."""
    for seed in range(6):
        network(1.5 + seed, repository / "nets", f"n{seed}.onnx")
    quiet = {"env": environment(), "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    victim = subprocess.Popen(command_line("gate", "--jobs", 2), start_new_session=True, **quiet)
    other = subprocess.Popen(command_line("gate"), **quiet)
    while victim.poll() is None and other.poll() is None and not entries(repository):
        time.sleep(0.01)
    victim.kill()
    kept = {path: path.stat().st_mtime_ns for path in entries(repository)}
    assert other.wait() == 1
    group = victim.pid
    victim.wait()
    assert len(entries(repository)) == 8
    done = gate()
    assert all(result["cached"] for result in done.document["results"])
    assert done.result(LARGE)["verdict"] == "fail"
    assert set(kept) <= set(entries(repository))
    assert not list((repository / ".lipcert-cache").rglob(".*.json.*"))
    deadline = time.monotonic() + 30
    while _alive(group) and time.monotonic() < deadline:  # its processes end with it
        time.sleep(0.05)
    assert not _alive(group)


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_killed_process_of_the_pool_is_an_error(
    gate: Gate, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_prove", _die)
    done = gate("--jobs", 2)
    assert (done.status, set(done.verdicts.values())) == (2, {"error"})
    assert "its process was killed" in done.result(SMALL)["message"]


def _die(item: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
