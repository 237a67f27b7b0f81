"""The command line of ``rnncond completion``: what a shell completes, made from the declarations of the verbs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer
from typer import Argument

from pipelines.cli import options
from pipelines.cli.commands import VERBS, add_common, app_of
from pipelines.config.choices import recipe_names
from pipelines.console import Outcome

app = options.application()

EXAMPLES = """
Examples:

  rnncond completion bash > ~/.local/share/bash-completion/completions/rnncond

  echo 'eval "$(rnncond completion zsh)"' >> ~/.zshrc

  rnncond completion fish > ~/.config/fish/completions/rnncond.fish
"""
WITH_RECIPES = ("train", "tune", "recipes show")
"""Commands whose first argument is a recipe."""


@app.command(epilog=EXAMPLES)
def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Argument(metavar="SHELL", help="bash, zsh or fish")],
) -> Outcome:
    """Print the script that lets a shell complete verbs, options, their choices, names of recipes, and files."""
    print(fish() if shell == "fish" else bash(shell), end="")
    return Outcome({"shell": shell}, printed=True)


def words_of_commands() -> dict[str, list[str]]:
    """What may follow each command: the commands below it, names of recipes, and its options."""
    words: dict[str, list[str]] = {}
    for verb in VERBS:
        parser = typer.main.get_command(app_of(verb))
        add_common(parser)
        below = getattr(parser, "commands", {})
        words[verb] = [*below, *options_of(parser)]
        words |= {f"{verb} {name}": options_of(command) for name, command in below.items()}
    for command in WITH_RECIPES:
        words[command] = [*recipe_names(), *words[command]]
    return words


def options_of(parser: Any) -> list[str]:
    """The long options of a command."""
    named = [param for param in parser.params if param.param_type_name == "option"]
    flags = [flag for param in named for flag in (*param.opts, *param.secondary_opts) if flag.startswith("--")]
    return [*dict.fromkeys(flags), "--help"]


def bash(shell: str) -> str:
    """A function for bash; zsh takes it by its own bashcompinit."""
    cases = "\n".join(
        f'        "{command}") words="{" ".join(words)}" ;;' for command, words in words_of_commands().items()
    )
    head = "autoload -Uz bashcompinit && bashcompinit\n" if shell == "zsh" else ""
    return f"""{head}_rnncond() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" command="${{COMP_WORDS[1]}}" words=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{" ".join(VERBS)} --help --version" -- "$current"))
        return
    fi
    case "$command ${{COMP_WORDS[2]}}" in
        {"|".join(f'"{command}"' for command in words_of_commands() if " " in command)})
            [ "$COMP_CWORD" -gt 2 ] && command="$command ${{COMP_WORDS[2]}}" ;;
    esac
    case "$command" in
{cases}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current") $(compgen -f -- "$current"))
}}
complete -o filenames -F _rnncond rnncond
"""


def fish() -> str:
    lines = [
        f"complete -c rnncond -n __fish_use_subcommand -f -a {verb} -d '{quoted(purpose)}'"
        for verb, purpose in VERBS.items()
    ]
    for command, words in words_of_commands().items():
        seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in command.split())
        for word in words:
            what = f"-l {word.removeprefix('--')}" if word.startswith("--") else f"-a {word}"
            lines.append(f"complete -c rnncond -n '{seen}' {what}")
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    return text.replace("'", "\\'")
