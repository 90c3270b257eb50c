"""
A text encoder that is streamed: its matrices stay in the checkpoint's files and are brought for each new prompt, a layer at a time.
"""
import pytest

from harness import SMALL


@pytest.mark.parametrize("where", ["resident", "streamed"])
def test_status_says_where_it_is(zitd, where):
    """In the status document and on the screen; over an upgrade too, whose zitd does not hear READY again."""
    daemon = zitd("real", runner={"text_encoder": where})
    for _ in range(2):
        assert daemon.runner()["text_encoder"] == where
        screen = daemon.ctl("status").stdout.splitlines()
        titles = next(line for line in screen if line.startswith("RUNNER"))
        row = screen[screen.index(titles) + 1]
        assert row[titles.index("TEXT ENCODER"):].startswith(where), screen
        assert daemon.ctl("upgrade").returncode == 0
    assert daemon.generate(**SMALL)["state"] == "done" and daemon.runner()["generation"] == 1


def test_status_does_not_guess(zitd):
    """Before the runner was ready, nobody knows."""
    daemon = zitd("loading exit 65", ready=False)
    daemon.wait_listening()
    assert "text_encoder" not in daemon.runner()
