"""build/zit-sim: the scheduler's own code under a flood, in virtual time."""
import json
import subprocess

import pytest

from harness import BUILD


def simulate(*arguments):
    result = subprocess.run([str(BUILD / "zit-sim"), *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_flood_is_as_in_the_design():
    """Nobody but the flooder loses a job, and the waits are those of the study that the design rests on, p50 and p95 in
    seconds over eighty seeds of four hours each, to 10 %. (Of eight seeds, as in the study's own table, the p95 of low,
    which has fewest jobs, says little: other sets move it by 20 %. Its 19.03 there is 20.43 over eighty.)"""
    run = simulate("--scenario", "flood", "--seeds", "1-80", "--order", "fair", "-o", "json")
    for kind, p50, p95 in (("light", 3.53, 19.17), ("high", 2.30, 9.24), ("low", 2.72, 20.43)):
        assert run[kind]["lost"] == 0
        assert run[kind]["wait_p50"] == pytest.approx(p50, rel=0.1)
        assert run[kind]["wait_p95"] == pytest.approx(p95, rel=0.1)
    assert run["jain"] >= 0.98


@pytest.mark.parametrize("costs", [["--costs", "mean"], ["--costs", "mean", "--correct"], ["--costs", "model"]])
def test_promises_and_refusals_hold(costs):
    """Of thousands of jobs 93 to 97 % are done by the p95 that they were told when they came, about half by the eta, and
    of those that would have been refused for their deadline nine in ten would have missed it; with every way of charging
    nobody but the flooder loses a job."""
    run = simulate("--order", "fair", *costs, "-o", "json")
    assert run["promised"] > 1000 and 0.93 <= run["eta_p95_coverage"] <= 0.97
    assert 0.45 <= run["eta_p50_coverage"] <= 0.55
    assert run["refused"] > 1000 and run["refused_truly_late"] >= 0.9
    assert run["jain"] >= 0.98
    assert all(run[kind]["lost"] == 0 for kind in ("light", "high", "low"))


def test_other_orders_lose_what_fair_keeps():
    fifo, strict = (simulate("--order", order, "-o", "json") for order in ("fifo", "strict"))
    for kind in ("light", "high", "low"):
        assert fifo[kind]["lost"] > 0
    assert strict["low"]["served"] == 0
    assert strict["light"]["lost"] > 0


def test_a_seed_gives_one_run():
    assert simulate("--seeds", "3", "--order", "fair", "-o", "json") == simulate("--seeds", "3-3", "--order", "fair", "-o", "json")


@pytest.mark.parametrize("arguments, why", [
    (["--order", "random"], "the order is"), (["--seeds", "9-3"], "seeds go"), (["--seeds", "abc"], "seeds go"),
    (["--seeds", "3-"], "seeds go"), (["--seeds", "1-2x"], "seeds go"), (["--seeds", "-1"], "seeds go"), (["--seeds", "1-99999999999"], "seeds go"),
    (["--hours", "0"], "hours are"), (["--hours", "nan"], "hours are"), (["--hours", "1x"], "hours are"), (["--hours", "inf"], "hours are"),
    (["--scenario", "ebb"], "the only scenario"), (["--costs", "none"], "costs are"), (["-o", "xml"], "table or json"),
    (["--nosuch"], "unknown option"), (["--hours"], "without its value"), (["extra"], "options only")])
def test_wrong_command_lines_are_told(arguments, why):
    result = subprocess.run([str(BUILD / "zit-sim"), *arguments], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (64, "")
    first, usage = result.stderr.splitlines()
    assert first.startswith("zit-sim: ") and why in first and usage.startswith("usage: ")


def test_help_is_no_error():
    result = subprocess.run([str(BUILD / "zit-sim"), "--help"], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("usage: zit-sim") and result.stderr == ""


def test_a_run_too_short_for_a_refusal():
    """Nothing is said of what there is none of."""
    table = subprocess.run([str(BUILD / "zit-sim"), "--order", "fair", "--seeds", "1", "--hours", "0.01"], capture_output=True, text=True,
                           check=True).stdout
    assert "nan % missed" not in table and "refused" not in table and table.startswith("fair")
