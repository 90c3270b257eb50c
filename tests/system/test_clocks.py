"""The wall clock is set while zitd runs: what goes by it does not lose its head."""
import time
from pathlib import Path

import pytest

from harness import BUILD, SANITIZED, RpcError

DAY = 86400
pytestmark = pytest.mark.skipif(SANITIZED, reason="a sanitizer's runtime wants to be loaded first")


@pytest.fixture
def clock(tmp_path):
    """Sets the clock: clock(3600) puts it an hour ahead, from the next time on that the file is read. clock.env: for a daemon."""
    control = tmp_path / "clock"

    def put(seconds):
        (tmp_path / "next").write_text(str(int(seconds)))
        (tmp_path / "next").rename(control)

    put.env = {"LD_PRELOAD": str(BUILD / "tests" / "faulty_clock.so"), "FAULTY_CLOCK": str(control), "TZ": "UTC0"}
    put(0)
    return put


def test_a_quota_is_not_had_twice_over_midnight(zitd, clock):
    daemon = zitd("step 0.05", env=clock.env, clients={"quota_day": 0.3, "over_quota": "refuse"})
    midnight = DAY - time.time() % DAY
    clock(midnight + 600)
    daemon.generate(steps=8)
    used = daemon.call("usage")["clients"][0]["today"]
    clock(midnight - 600)
    assert daemon.call("usage")["clients"][0]["today"] == used and used["device_s"] >= 0.4
    with pytest.raises(RpcError) as refused:
        daemon.submit(steps=8)
    assert refused.value.name == "rate_limited" and DAY <= refused.value.data["retry_after_s"] <= DAY + 602  # whole seconds
    clock(midnight + 600)
    assert daemon.call("usage")["clients"][0]["today"]["device_s"] == used["device_s"]
    clock(midnight + DAY + 600)
    assert daemon.generate(steps=1)["state"] == "done"


def test_a_key_is_not_forgotten_by_a_leap(zitd, clock):
    daemon = zitd("step 0", env=clock.env)
    job = daemon.submit(steps=1, idempotency_key="k")
    daemon.wait(job)
    clock(2 * DAY)
    assert daemon.submit(steps=1, idempotency_key="k") == job


def test_pictures_are_not_lost_to_a_leap(zitd, clock):
    """Those of the machine's life before its clock was set, and those that are there when it is years ahead."""
    daemon = zitd("step 0.2", env=clock.env)
    clock(-10 * 365 * DAY)
    jobs = [daemon.submit(steps=4)]
    clock(0)
    jobs.append(daemon.submit(steps=1))
    assert all(daemon.wait(job)["state"] == "done" for job in jobs)
    clock(10 * 365 * DAY)
    daemon.call("upgrade")  # the new program has no reason to believe what the old one did not
    time.sleep(11)  # zitd looks for old pictures every ten seconds
    assert all(Path(daemon.job(job)["result"]["path"]).exists() for job in jobs)
