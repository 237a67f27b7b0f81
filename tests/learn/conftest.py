"""The table of what was learnt, behind the tests of ``make learn``. A test calls ``learnt(system, right, of)``."""

import pytest


@pytest.fixture
def learnt(record_property):
    """A function that puts a line into the table: the system, the share that it got right, and of what."""

    def note(system: str, right: float, of: str) -> None:
        record_property("learnt", (system, f"{right:.1%}", of))

    return note


def pytest_terminal_summary(terminalreporter):
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    lines = [
        (*value, f"{report.duration:.0f} s")
        for report in reports
        if report.when == "call"
        for name, value in report.user_properties
        if name == "learnt"
    ]
    if not lines:
        return
    terminalreporter.section("learnt")
    table = [("system", "right", "of", "took"), *lines]
    widths = [max(len(line[column]) for line in table) for column in range(4)]
    for line in table:
        terminalreporter.write_line("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
