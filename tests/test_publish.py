"""What is published is what was run, with the machine it was run on.   ./run_tests.sh tests/test_publish.py"""

import json
from dataclasses import asdict

import pytest
from test_claims import read_back
from test_figures import draw
from test_notebooks import write

from memlm import bench, claims, figures, notebooks, paths, publish, records


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of one notebook that drew one figure and recorded one verdict in profile cpu, on a machine called here."""
    for name in ("RECORDS", "REPORT", "FIGURES", "NOTEBOOKS"):
        monkeypatch.setattr(paths, name, tmp_path / name.lower())
        for module in (claims, figures):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, tmp_path / name.lower())
    monkeypatch.setattr(publish, "README", tmp_path / "README.md")
    monkeypatch.setattr(publish, "BENCHES", [tmp_path / "records" / f"bench{of}.json" for of in ("", "-gpu")])
    monkeypatch.setattr(bench, "RECORD", tmp_path / "bench.json")
    monkeypatch.setattr(bench, "device_name", lambda: "here")
    monkeypatch.setattr(records, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(figures, "notebook_hash", lambda notebook: "0" * 16)
    blocks = "".join(f"<!-- {name} -->\n<!-- /{name} -->\n" for name in ("verdicts", "figures", "times", "bench"))
    (tmp_path / "README.md").write_text(blocks)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "02_energies.ipynb").write_text(
        '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []}'
    )
    ledger = {"CV": claims.ledger()["CV"]}
    monkeypatch.setattr(claims, "ledger", lambda: ledger)
    (tmp_path / "report" / "cpu").mkdir(parents=True)
    draw(tmp_path / "report" / "cpu" / "figures")
    record(tmp_path, "cpu")
    stamp(tmp_path)
    return tmp_path


def record(folder, profile):
    (folder / "report" / "cpu" / "verdicts" / "CV.json").unlink(missing_ok=True)
    refuted = claims.certified("c", False, "")
    claims.record("CV", profile=profile, printed=[refuted], folder=folder / "report" / "cpu" / "verdicts")


def stamp(folder, seconds=60.0, **fields):
    asked = {"profile": "cpu", "seed": 0, "from_records": False} | fields
    made = {"made_from": notebooks.fingerprint("02_energies", asked), "begun": 0.0, "seconds": seconds}
    made |= {"outputs": notebooks.outputs("02_energies", "cpu")} | asked
    paths.write_sealed(folder / "report" / "cpu" / "02_energies.json", made)


def test_figures_verdicts_and_times_go_where_they_are_committed(project):
    publish.publish("cpu")
    assert figures.stale(project / "figures") == []
    assert claims.recorded()["CV"]["verdict"] == "fails as printed"
    assert notebooks.times() == {"commands": {}, "cpu": {"02_energies": {"seconds": 60.0, "device": "here"}}}
    text = (project / "README.md").read_text()
    assert publish.filled(text) == text and "| 1 notebooks, profile cpu, nothing cached | 60 s | here |" in text
    assert "| [line](figures/line.png) | [02_energies](notebooks/02_energies.ipynb) | 1.0 |" in text


def test_a_figure_that_is_drawn_no_more_is_no_more_published(project):
    publish.publish("cpu")
    figures.drop(["line"], project / "report" / "cpu" / "figures")
    stamp(project)
    publish.publish("cpu")
    assert [file.name for file in sorted((project / "figures").glob("[!.]*"))] == ["manifest.json"]


REFUSED = {
    "another seed": (lambda f: stamp(f, seed=5), "02_energies was executed with seed 5; expected 0; run ./run_all.sh"),
    "a copy of another profile": (
        lambda f: stamp(f, profile="smoke"),
        "02_energies has changed since it was executed, or was executed in another profile; run",
    ),
    "verdicts of another profile": (
        lambda f: (record(f, "smoke"), stamp(f)),
        "claim CV in .*CV.json is of profile smoke; execute 02_energies in profile cpu with seed 0",
    ),
    "other code": (
        lambda f: write(f / "notebooks", "02_energies", "x = 1"),
        "02_energies has changed since it was executed",
    ),
    "a claim without a verdict": (
        lambda f: ((f / "report" / "cpu" / "verdicts" / "CV.json").unlink(), stamp(f)),
        "profile cpu has no verdict on CV; run ./run_all.sh --profile cpu",
    ),
    "a README without a block": (
        lambda f: (f / "README.md").write_text("<!-- verdicts -->\n<!-- /verdicts -->\n"),
        "README.md has 0 blocks named 'figures'; expected 1",
    ),
    "a time that is none": (
        lambda f: (f / "report" / "tests.seconds").write_text("abc"),
        "tests.seconds holds 'abc'; expected a whole number of seconds",
    ),
    "not executed": (
        lambda f: (f / "report" / "cpu" / "02_energies.json").unlink(),
        "profile cpu has not executed 02_energies; run ./run_all.sh --profile cpu",
    ),
    "a figure changed by hand": (
        lambda f: (f / "report" / "cpu" / "figures" / "line.png").write_bytes(b"x"),
        "what 02_energies left in report/cpu/ was changed since; run ./run_all.sh --profile cpu --only 02",
    ),
    "a verdict changed by hand": (
        lambda f: (f / "report" / "cpu" / "verdicts" / "CV.json").write_bytes(b"{}"),
        "what 02_energies left in report/cpu/ was changed since",
    ),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_the_outcome_of_a_run_is_not_published(project, change, message):
    change(project)
    before = (project / "README.md").read_bytes()
    with pytest.raises(ValueError, match=message):  # before anything is written
        publish.publish("cpu")
    assert (project / "README.md").read_bytes() == before
    assert not (project / "records").exists() and not (project / "figures").exists()


def test_a_replay_is_published_without_its_time(project):
    stamp(project, from_records=True)
    publish.publish("cpu")
    assert figures.stale(project / "figures") == [] and claims.recorded()["CV"]["verdict"] == "fails as printed"
    assert notebooks.times()["cpu"] == {}


def test_times_of_another_machine_keep_its_name(project):
    elsewhere = {"seconds": 7.0, "device": "elsewhere"}
    paths.write_sealed(
        project / "records" / "times.json",
        {"smoke": {"02_energies": elsewhere}, "cpu": {"02_energies": elsewhere}, "commands": {"set-up": elsewhere}},
    )
    (project / "runs" / "z").mkdir(parents=True)
    (project / "runs" / "z" / "stamp.json").write_text("{}")
    # The runs that the figure shows were there before the notebook was executed: what it took is not its time.
    assert publish._measured(
        "cpu", {"02_energies": {"begun": 1e12, "from_records": False}}, {"02_energies": ["z"]}, "here"
    ) == {"02_energies": elsewhere}
    publish.publish("cpu")
    times = notebooks.times()
    assert times["smoke"] == {"02_energies": elsewhere} and times["commands"] == {"set-up": elsewhere}
    assert times["cpu"] == {"02_energies": {"seconds": 60.0, "device": "here"}}
    block = publish.blocks()["times"]
    _, rows = read_back(block)
    assert [row[2] for row in rows] == ["elsewhere", "elsewhere", "here"]


@pytest.mark.parametrize("size", [bench.SMALL, bench.CPU])
def test_numbers_of_a_small_benchmark_are_refused(project, size, monkeypatch):
    monkeypatch.setattr(bench, "table", lambda record: "a table")
    measured = {"size": json.loads(json.dumps(asdict(size))), "device": "here", "peak_flops": {}, "results": {}}
    paths.write_sealed(project / "bench.json", measured)
    said = "; ".join(publish.publish("cpu"))
    assert ("not published" in said) == (size is bench.SMALL) != (project / "records" / "bench.json").is_file()


def test_damaged_numbers_of_a_benchmark_are_named(project):
    (project / "bench.json").write_text("[]")
    with pytest.raises(paths.Damaged, match=r"bench.json holds list; expected an object; run python -m memlm bench again"):
        publish.publish("cpu")


def test_every_generated_table_of_the_readme_is_read_back():
    text = (paths.ROOT / "README.md").read_text(encoding="utf8")
    for name, columns in (("verdicts", 6), ("figures", 3), ("times", 3)):
        block = text.partition(f"<!-- {name} -->\n")[2].partition(f"<!-- /{name} -->")[0]
        head, rows = read_back(block)
        assert len(head) == columns and len(rows) >= 3, name
        assert all(len(row) == columns for row in rows), name
