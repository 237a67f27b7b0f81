"""What a shell completes: bash itself is asked."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from pipelines.cli.commands import VERBS
from pipelines.config.choices import recipe_names
from tests.worlds.command import check_mistake, rnncond


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """A function that gives bash's completions of a command line whose last word is being written."""
    from pipelines.cli.completion import bash

    folder = tmp_path_factory.mktemp("completion")
    (folder / "rnncond.bash").write_text(bash("bash"))
    (folder / "photos").mkdir()

    def complete(*words: str) -> set[str]:
        line = " ".join(f"'{word}'" for word in words)
        code = f'. ./rnncond.bash; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _rnncond; echo "${{COMPREPLY[*]}}"'
        done = subprocess.run(["bash", "-c", code], cwd=folder, capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    return complete


def test_verbs_options_recipes_and_files(complete):
    assert complete("rnncond", "") == {*VERBS, "--help", "--version"}
    assert complete("rnncond", "tr") == {"train", "translate"}
    assert complete("rnncond", "caption", "x", "--no-rep") == {"--no-repeat-ngram"}
    assert complete("rnncond", "caption", "pho") == {"photos"}
    assert complete("rnncond", "train", "show_tell") == {
        name for name in recipe_names() if name.startswith("show_tell")
    }
    assert complete("rnncond", "store", "ver") == {"verify"}
    assert complete("rnncond", "store", "vacuum", "--gr") == {"--grace-hours"}
    assert complete("rnncond", "recipes", "show", "gnmt.s") == {"gnmt.small"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_a_script_with_every_verb(shell, capsys, tmp_path):
    assert rnncond("completion", shell) == 0
    script = capsys.readouterr().out
    assert all(verb in script for verb in VERBS)
    if shutil.which(shell):
        (tmp_path / "script").write_text(script)
        subprocess.run([shell, "-n", str(tmp_path / "script")], check=True)


def test_another_shell_is_refused(capsys):
    check_mistake(["completion", "cmd"], "'cmd' | bash", capsys)
