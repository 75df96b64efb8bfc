"""Runs: found, shared, recorded, replayed, and the command that trains.   ./run_tests.sh tests/test_runs.py"""

import json
import math
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_train import CONFIG

from memlm import __main__, experiments, records, runs, train
from memlm.configs import DataConfig


def test_two_processes_that_start_the_same_run_share_it(tmp_path):
    id, code = records.run_id(CONFIG), records.training_code()
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            try:
                runs.train_here(CONFIG, id, code, tmp_path)
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    assert [m["step"] for m in records.read(tmp_path / id).metrics] == [0, 5, 10, 12]
    assert [p.name for p in tmp_path.glob("[!.]*")] == [id]


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(records, "RECORDS", tmp_path / "records")
    run = runs.train_here(CONFIG, records.run_id(CONFIG), records.training_code(), tmp_path / "runs")
    return tmp_path, run


def test_a_finished_run_is_read_and_not_trained_again(store, monkeypatch):
    folder, run = store
    assert [p.name for p in (folder / "runs").glob("[!.]*")] == [run.id]
    monkeypatch.setattr(runs, "train_here", None)
    assert runs.load_or_train([CONFIG]) == [run]
    assert run.stamp["device"] and run.stamp["versions"]["torch"] == torch.__version__
    steps, losses = run.column("dev_loss")
    assert steps == (0, 5, 10, 12) and len(losses) == 4
    with pytest.raises(KeyError, match="has no metric 'accuracy'"):
        run.column("accuracy")
    nested = records.Run("r", {}, [{"step": 1}, {"step": 2, "a": {"b": [{"c": 5}, {"c": 6}], "d": None}}], {})
    assert nested.column("a.b.-1.c") == ((2,), (6,))
    assert math.isnan(nested.column("a.d")[1][0]) and math.isnan(nested.column("a.d.e")[1][0])


def test_records_are_found_by_configuration_alone_and_say_when_the_code_has_changed(store, monkeypatch):
    folder, run = store
    with pytest.raises(LookupError, match="holds no record of"):
        runs.load_or_train([CONFIG], from_records=True)
    records.keep(run)
    (kept,) = [records.find(CONFIG, folder / "records")]
    assert kept == run
    monkeypatch.setattr(records, "training_code", lambda: "0" * 16)
    assert records.find(CONFIG, folder / "records").outdated
    assert records.find(replace(CONFIG, seed=9), folder / "records") is None


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "stamp.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_damaged_runs_are_refused(store, name, damage):
    folder, run = store
    path = folder / "runs" / run.id / name
    data = path.read_bytes()
    if damage == "remove":
        path.unlink()
    elif damage == "truncate":
        path.write_bytes(data[: len(data) // 2])
    else:
        at = data.index(b'"') + 1
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(records.DamagedRun, match=run.id):
        runs.load_or_train([CONFIG])


def test_runs_side_by_side_in_other_processes_give_the_same_bits_as_one_here(store, capfd):
    _, run = store
    (again,) = runs.load_or_train([CONFIG], force=True)
    assert again.stamp["seal"] != run.stamp["seal"]  # it was trained again
    clean = [[{k: v for k, v in m.items() if k not in train.CLOCK} for m in r.metrics] for r in (run, again)]
    assert clean[0] == clean[1]
    assert json.dumps(run.config) == json.dumps(again.config)


def test_nothing_goes_on_where_training_is_killed(tmp_path):
    command = [sys.executable, "-m", "memlm", "train", "X2", "--profile", "smoke", "--out", str(tmp_path)]
    parent = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def alive():
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                state, _, group = path.read_text().rpartition(")")[2].split()[:3]
                found += [path.parent.name] * (int(group) == parent.pid and state != "Z")
        return found

    begun = time.monotonic()
    while not list(tmp_path.glob(".*.lock")) and time.monotonic() - begun < 60:
        time.sleep(0.1)
    assert len(alive()) >= 3  # the command, the server and a worker
    parent.kill()
    parent.wait()
    begun = time.monotonic()
    while alive() and time.monotonic() - begun < 20:
        time.sleep(0.1)
    assert alive() == []


def test_a_record_is_found_for_data_of_any_digest_only_where_the_digest_is_left_open(store):
    _, run = store
    records.keep(run)
    open_ = replace(CONFIG, data=DataConfig("generator", "", CONFIG.data.size))
    assert records.find(open_).id == run.id
    assert records.find(replace(open_, seed=1)) is None
    assert records.find(replace(CONFIG, data=replace(CONFIG.data, digest="0" * 64))) is None


def test_a_stamp_says_who_where_and_how_fast(store):
    _, run = store
    assert run.stamp["seed"] == CONFIG.seed and run.stamp["tokens"] == run.metrics[-1]["tokens"] > 0
    assert run.stamp["tokens_per_second"] > 0 and 0 < run.stamp["mfu"] < 1 and run.stamp["peak_memory"] > 2**25


def test_labels_name_the_runs_of_an_experiment_apart():
    for profile in experiments.profiles():
        for experiment in experiments.EXPERIMENTS:
            labels = [c.label for c in experiments.configs(experiment, profile, from_records=True)]
            assert len(set(labels)) == len(labels) >= 1
    with pytest.raises(ValueError, match="experiment is 'X9'; expected one of X2"):
        experiments.configs("X9", "smoke")


def test_a_profile_takes_the_numbers_that_it_does_not_change_from_every_profile():
    few, many = (experiments.profile(name)["S4"] for name in ("smoke", "cpu"))
    assert few["adam"] == many["adam"] and few["kind"] == "vanilla" and few["steps"] < many["steps"]
    (two, six) = {c.model.n_layer: c.model for c in experiments.configs("X2", "cpu", from_records=True)}.values()
    assert (two.dropout, six.dropout) == (0.1, 0.0) and two.d_ff == two.d_model == six.d_model
    longer, whole = (experiments.profile("gpu")[name] for name in ("S65", "X1"))
    assert longer["n_layer"] == whole["n_layer"] == 12 and longer["steps"] > whole["steps"]
    for config in experiments.configs("S4", "cpu", from_records=True):
        assert config.steps * config.batch_size <= config.data.size  # no line is met twice


def test_more_tokens_than_a_text_has_are_refused(monkeypatch):
    monkeypatch.setattr(experiments, "tokens", lambda *_: ("a text", "digest", 3_399_999))
    with pytest.raises(ValueError, match="tokens is 3400000; expected at most the 3399999 training tokens of a text"):
        experiments.configs("X1", "cpu")


WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, *rest):
        if name.split(".")[0] in ("datasets", "jupyterlab", "papermill", "nbformat", "matplotlib", "seaborn", "sympy"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
from memlm.__main__ import main
main(sys.argv[1:])
"""


def test_text_is_trained_on_from_the_command_line_without_jupyter_or_datasets(tmp_path, capsys):
    arguments = ["train", "text", "--profile", "smoke", "--out", str(tmp_path)]
    __main__.main(arguments)  # tokenises, if it has not been done
    said = capsys.readouterr()
    assert "nats per token" in said.out and "of peak" in said.out
    assert said.err.count("held out") == 3 and "tokens/s" in said.err
    (run,) = [records.read(path) for path in tmp_path.glob("[!.]*")]
    assert run.metrics[-1]["dev_loss"] < run.metrics[0]["dev_loss"] < 5.7  # log 257 is 5.55

    other = tmp_path / "without"
    command = [sys.executable, "-c", WITHOUT, *arguments[:-1], str(other), "--resume"]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=records.ROOT)
    assert answer.returncode == 0, answer.stderr[-2000:]
    (again,) = [records.read(path) for path in other.glob("[!.]*")]
    assert [{k: v for k, v in m.items() if k not in train.CLOCK} for m in again.metrics] == [
        {k: v for k, v in m.items() if k not in train.CLOCK} for m in run.metrics
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["train", "text", "--profile", "smoke", "--only", "seed9"],
            "--only is seed9; expected part of one of mpmath-bytes-",
        ),
        (
            ["train", "text", "--profile", "smoke", "--resume", "--force"],
            "--force begins again; expected one",
        ),
        (["train", "X2", "--profile", "smoke", "--data", "books"], "data is 'books'; expected none"),
        (["train", "text", "--profile", "smoke", "--data", "nothing"], "nothing"),
    ],
)
def test_what_train_cannot_do_is_one_sentence(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        __main__.main(arguments)
    assert message in f"{caught.value} {capsys.readouterr().err}"
