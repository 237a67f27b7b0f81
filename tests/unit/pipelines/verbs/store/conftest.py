"""``rnncond store`` for its tests."""

import json

import pytest

from tests.worlds import command


@pytest.fixture
def rnncond(capsys):
    """Runs the command: its exit code, its line of JSON, and what it tells."""

    def run(*words) -> tuple[int, dict, str]:
        code = command.rnncond(*words, "--json")
        out, err = capsys.readouterr()
        return code, json.loads(out.splitlines()[-1]), err

    return run
