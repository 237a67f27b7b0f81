"""What is alarmed on and what the dashboard shows is exported, by this project or by Ray, and Grafana finds in the
dashboard what it needs."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from ray.dashboard.modules.metrics import grafana_dashboard_factory as of_ray

from pipelines.cluster import prometheus
from tests.worlds.manifests import ROOT, one

DASHBOARD = json.loads((ROOT / "deploy" / "grafana.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def exported() -> set[str]:
    """The names under which Prometheus finds what this project counts and measures."""
    gauges = [*prometheus.PACE.values(), prometheus.SCORE, prometheus.WITHIN]
    counters = [prometheus.INPUTS, prometheus.FAILED, prometheus.UNITS, prometheus.BYTES]
    return {f"ray_{name}" for name, _ in gauges} | {f"ray_{name}_total" for name, _ in counters}


def known_to_ray() -> set[str]:
    """The metrics of the dashboards that Ray writes itself."""
    writers = (
        of_ray.generate_default_grafana_dashboard,
        of_ray.generate_data_grafana_dashboard,
        of_ray.generate_train_grafana_dashboard,
    )
    return {name for writer in writers for name in names_in(targets_of(json.loads(writer()[0])["panels"]))}


def targets_of(panels: list[dict]) -> list[str]:
    own = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    return own + [expr for panel in panels for expr in targets_of(panel.get("panels", []))]


def names_in(expressions: list[str]) -> set[str]:
    """The metrics of PromQL expressions, which all begin with ``ray_``; labels stand in braces or behind ``by``."""
    bare = [re.sub(r"\{[^}]*\}|\bby\s*\([^)]*\)", "", expression) for expression in expressions]
    return {name for expression in bare for name in re.findall(r"\bray_\w+", expression)}


def test_what_is_alarmed_on_is_exported():
    rules = [rule for group in one("PrometheusRule")["spec"]["groups"] for rule in group["rules"]]
    used = names_in([rule["expr"] for rule in rules])
    assert used and used <= exported()


def test_what_the_dashboard_shows_is_exported():
    used = names_in(targets_of(PANELS))
    ours = {name for name in used if name.startswith("ray_rnncond_")}
    assert ours and ours <= exported()
    rays = used - ours
    assert {name.split("_")[1] for name in rays} == {"data", "train", "node"}
    assert rays <= known_to_ray()


def test_names_that_nobody_exports_are_seen():
    expression = 'sum by (output) (rate(ray_rnncond_inputs_don_total{ray_io_cluster=~"$cluster"}[5m])) / ray_data_row'
    assert names_in([expression]) == {"ray_rnncond_inputs_don_total", "ray_data_row"}
    assert not names_in([expression]) & (exported() | known_to_ray())


def test_labels_are_those_of_our_metrics():
    tags = {"kind", "output", "stage", "system", "metric"}
    ours = [expression for expression in targets_of(PANELS) if "ray_rnncond_" in expression]
    for expression in ours:
        grouped = {label for labels in re.findall(r"by \(([^)]*)\)", expression) for label in labels.split(", ")}
        filtered = set(re.findall(r"(\w+)=~", expression))
        assert grouped | filtered <= tags | {"ray_io_cluster"}, expression
    assert ours


@pytest.mark.parametrize("panel", DASHBOARD["panels"], ids=lambda panel: panel["title"])
def test_grafana_finds_what_a_panel_needs(panel):
    assert {"id", "type", "title", "gridPos"} <= set(panel)
    if panel["type"] == "row":
        assert panel["panels"] == [] and panel["collapsed"] is False
        return
    assert panel["type"] == "timeseries"
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert "unit" in panel["fieldConfig"]["defaults"] and panel["fieldConfig"]["overrides"] == []
    refs = [target["refId"] for target in panel["targets"]]
    assert refs and len(set(refs)) == len(refs)
    for target in panel["targets"]:
        assert target["legendFormat"]
        assert is_balanced(target["expr"]), target["expr"]


def is_balanced(expression: str) -> bool:
    closing, open_ones = {")": "(", "]": "[", "}": "{"}, []
    for character in re.sub(r'"[^"]*"', '""', expression):
        if character in closing.values():
            open_ones.append(character)
        elif character in closing and (not open_ones or open_ones.pop() != closing[character]):
            return False
    return not open_ones


def test_grafana_finds_what_a_dashboard_needs():
    # What Ray's own have as well, which Grafana is known to take.
    assert {"title", "uid", "schemaVersion", "version", "panels", "templating", "time", "annotations"} <= set(DASHBOARD)
    assert {"title", "uid", "schemaVersion", "panels", "templating", "time"} <= set(
        json.loads(of_ray.generate_data_grafana_dashboard()[0])
    )
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    cells = [cell for panel in DASHBOARD["panels"] for cell in cells_of(panel["gridPos"])]
    assert len(set(cells)) == len(cells), "panels lie on one another"
    assert max(x for x, _ in cells) < 24


def cells_of(place: dict[str, int]) -> list[tuple[int, int]]:
    return [(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])]


def test_variables_are_defined_before_they_are_used():
    variables: list[dict[str, Any]] = DASHBOARD["templating"]["list"]
    names = [variable["name"] for variable in variables]
    assert names[0] == "datasource" and variables[0]["type"] == "datasource" and len(set(names)) == len(names)
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD["panels"])))
    assert used - {"__rate_interval", "__range"} == set(names)
    for variable in variables[1:]:
        assert variable["type"] == "query" and variable["query"]["query"] == variable["definition"]
