"""Fixtures of the system tests: a factory of private daemons, each audited when its test has passed."""
import pytest

from harness import Zitd


@pytest.fixture
def zitd(tmp_path, request):
    """zitd("real" or a script for fake_runner, **sections) starts a daemon; see harness.Zitd."""
    daemons = []

    def start(script="real", ready=True, audited=True, **options):
        daemon = Zitd(tmp_path / f"d{len(daemons)}", script, **options)
        daemon.audited = audited
        daemons.append(daemon)
        return daemon.start(ready)

    yield start
    try:
        report = getattr(request.node, "report_call", None)
        for daemon in daemons:
            if report is not None and report.passed and daemon.audited:
                daemon.audit()
    finally:
        for daemon in daemons:
            daemon.clean_up()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    setattr(item, "report_" + call.when, outcome.get_result())
