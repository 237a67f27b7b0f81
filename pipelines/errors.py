"""Errors that are told to the user in one message, and the exit code of each."""

from __future__ import annotations

import errno


class UserError(Exception):
    """Something only the user can put right: what was found, what was expected, what to do. Exit code 2."""

    code = 2


class Fault(UserError):
    """Nobody's mistake: lost workers, a process that died, a server or storage that is away or busy. The same command
    resumes where it stopped, so a scheduler may try again. Exit code 4."""

    code = 4


class OtherRun(UserError):
    """The folder has a run of another recipe, or of other data; only --restart would begin it again."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which a scheduler sends: what holds for Ctrl-C holds for it."""

    code = 143


def user_message(error: BaseException) -> str | None:
    """The message of a mistake of the user's or of a fault; None for a defect of ours."""
    shown = told(error)
    if is_usage_error(shown):
        context = getattr(shown, "ctx", None)
        hint = f"\nTry '{context.command_path} --help'." if context else ""
        return f"{shown.format_message()}{hint}"  # type: ignore[union-attr]
    if is_about_path(shown):
        path = getattr(shown, "filename", None)
        what = f"{path}: {shown.strerror}" if path else str(shown)  # type: ignore[union-attr]
        return f"{what}. Expected a path that can be read or, of an output, written."
    return None if shown is None else str(shown)


def is_usage_error(error: BaseException | None) -> bool:
    """Whether it is what Typer raises for a wrong command line. By name: newer versions of Typer bring their own copy
    of click, and nobody has to load either to raise an error."""
    return any(kind.__name__ == "ClickException" for kind in type(error).__mro__)


def is_about_path(error: BaseException | None) -> bool:
    """Whether the operating system refused a path for a reason that only its user can put right."""
    return isinstance(error, OSError) and error.errno in PATH_ERRORS


PATH_ERRORS = {
    errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT
}  # fmt: skip


def exit_code(error: BaseException) -> int:
    """The exit code of an error that has a message for the user."""
    return getattr(told(error), "code", 2)


def told(error: BaseException) -> BaseException | None:
    """The user-facing error in the cause chain, where Ray or the parser wrapped it; None means a defect of ours.

    What was raised while a mistake was handled, and not from it, is a defect.
    """
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if (
            type(link).__name__ in USER_ERRORS
            or isinstance(link, UserError)
            or is_usage_error(link)
            or is_about_path(link)
        ):
            return link
        link = getattr(link, "cause", None) or link.__cause__
    return None


USER_ERRORS = {"UserError", "Fault", "StoreError", "StorageFault", "AnotherWriter", "ModelError"}
"""By name, because Ray may rebuild an exception as another class of the same name."""
