"""Runs: found, shared, recorded, replayed, and the command that trains.   ./run_tests.sh tests/test_runs.py"""

import fcntl
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path

import pytest
import torch
from conftest import hearing
from test_train import CONFIG

from memlm import __main__, documents, experiments, paths, records, runs, text, train
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


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    return folder, runs.train_here(CONFIG, records.run_id(CONFIG), records.training_code(), folder)


@pytest.fixture
def store(tmp_path, monkeypatch, trained):
    monkeypatch.setattr(records, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(records, "RECORDS", tmp_path / "records")
    shutil.copytree(trained[0], tmp_path / "runs")
    return tmp_path, trained[1]


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


def forge(folder, **files):
    """Give a run files of other contents, with hashes and a seal that fit them."""
    stamp = json.loads((folder / "stamp.json").read_text()) | files.pop("stamp", {})
    for name, content in files.items():
        path = folder / {"config": "config.json", "metrics": "metrics.jsonl"}[name]
        path.write_text(content)
        stamp["sha256"][path.name] = paths.sha256(path)
    paths.write_sealed(folder / "stamp.json", {name: value for name, value in stamp.items() if name != "seal"})


LINE = '{"step": 0, "tokens": 0, "seconds": 0.1, "train_loss": 1.0, "dev_loss": 1.0}\n'


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (dict(stamp=dict(seconds="1")), "stamp.json has seconds of type str; expected int or float"),
        (dict(stamp=dict(versions=[])), "stamp.json has versions of type list; expected an object"),
        (dict(stamp=dict(sources=None)), "stamp.json has sources of type NoneType; expected str"),
        (dict(metrics=LINE + "null\n"), "metrics.jsonl, line 2 is of type NoneType; expected an object"),
        (dict(metrics=LINE + "{}\n"), "metrics.jsonl, line 2 has no step"),
        (dict(metrics=LINE + '{"step": "1"}'), "metrics.jsonl, line 2 has step of type str; expected int"),
        (dict(metrics=LINE + LINE[:20]), "metrics.jsonl, line 2 is no JSON"),
        (dict(metrics=LINE + "\n" + LINE), "metrics.jsonl, line 2 is no JSON"),
        (dict(metrics=""), "metrics.jsonl has 0 evaluations; expected at least 1"),
        (dict(config="null"), "config.json is of type NoneType; expected an object"),
        (dict(config='{"experiment": "X2"}'), "config.json has no data"),
        (dict(config="[" * 9999), "config.json is no JSON"),
    ],
)
def test_a_run_whose_hashes_fit_is_still_held_to_its_shape(store, files, message):
    folder, run = store
    forge(folder / "runs" / run.id, **files)
    with pytest.raises(records.DamagedRun, match=message) as caught:
        runs.load_or_train([CONFIG])
    place = folder / "runs" / run.id
    assert str(place) in str(caught.value) and f"; delete {place} to train it again" in str(caught.value)


@pytest.mark.parametrize("text", ["null", "[]", "1", "", "{}", '{"seal": 1}'])
def test_a_stamp_that_is_none_is_refused_by_its_path(store, text):
    folder, run = store
    (folder / "runs" / run.id / "stamp.json").write_text(text)
    with pytest.raises(records.DamagedRun, match=f"{run.id}/stamp.json .*; delete .*{run.id} to train it again"):
        runs.load_or_train([CONFIG])


def test_a_run_under_the_name_of_another_is_refused(store):
    folder, run = store
    other = replace(CONFIG, seed=7)
    records.keep(run)
    for place in (folder / "runs", folder / "records"):
        (place / run.id).rename(place / records.run_id(other))
    with pytest.raises(records.DamagedRun, match=f"{records.run_id(other)} holds the run {run.id}; expected it"):
        runs.load_or_train([other])
    for config in (other, CONFIG):
        with pytest.raises(records.DamagedRun, match="holds the run"):
            runs.load_or_train([config], from_records=True)


def test_what_to_do_about_a_damaged_run_depends_on_where_it_lies(store):
    folder, run = store
    records.keep(run)
    (folder / "records" / run.id / "metrics.jsonl").write_text("")
    with pytest.raises(records.DamagedRun, match=f"; git checkout -- {folder}/records/{run.id} brings it back"):
        records.find(CONFIG)
    assert records.shown(records.ROOT / "data" / "records" / run.id) == f"data/records/{run.id}"


def test_committed_records_are_whole_and_serve_the_cpu_profile_alone():
    begun = time.perf_counter()
    assert runs.unserved("cpu") == []
    assert time.perf_counter() - begun < 5
    for profile, seed in (("cpu", 1), ("smoke", 0), ("gpu", 0), ("paper", 0)):
        assert runs.unserved(profile, seed), profile
    assert all(label.startswith("X1 ") or label.startswith(("S65 ", "X2 ")) for label in runs.unserved("gpu"))
    with pytest.raises(ValueError, match="seed is -1"):
        runs.unserved("cpu", -1)


def test_unserved_reads_each_record_once_and_refuses_a_damaged_one(tmp_path, monkeypatch):
    copy = tmp_path / "records"
    shutil.copytree(records.RECORDS, copy)
    monkeypatch.setattr(records, "RECORDS", copy)
    real, read = records._whole, []
    monkeypatch.setattr(records, "_whole", lambda folder: read.append(folder) or real(folder))
    assert runs.unserved("cpu") == [] and len(read) == len(set(read)) == len(list(copy.glob("*-*-*")))
    shutil.rmtree(next(copy.glob("S64-*")))
    (missing,) = runs.unserved("cpu")
    assert missing.startswith("S64 generator-")
    next(copy.glob("X2-*/config.json")).write_text("{}")
    with pytest.raises(records.DamagedRun, match="git checkout"):
        runs.unserved("cpu")


def wait_for(condition, seconds=60):
    begun = time.monotonic()
    while not condition() and time.monotonic() - begun < seconds:
        time.sleep(0.05)
    assert condition()


def test_force_waits_for_its_turn_and_replaces_what_is_stored_only_when_it_is_done(store, monkeypatch):
    folder, run = store
    place, code = folder / "runs", records.training_code()
    (place / f".{run.id}").mkdir()  # an unfinished one of another process, which holds the lock
    with open(place / f".{run.id}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        child = os.fork()
        if child == 0:
            try:
                runs.train_here(CONFIG, run.id, code, place, force=True)
                os._exit(0)
            finally:
                os._exit(1)
        time.sleep(1)
        assert (place / f".{run.id}").is_dir() and records.read(place / run.id) == run
        fcntl.flock(lock, fcntl.LOCK_UN)  # the child has this file open too
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    again = records.read(place / run.id)
    assert again.stamp["seal"] != run.stamp["seal"] and not list(place.glob(".*[!k]"))

    def fails(*_):
        raise RuntimeError("no")

    monkeypatch.setattr(train, "train", fails)
    with pytest.raises(RuntimeError, match="no"):
        runs.train_here(CONFIG, run.id, code, place, force=True)
    assert records.read(place / run.id) == again


@pytest.mark.parametrize("inside", ["notes.txt", "checkpoints/thesis.tex", "checkpoints/5/model.bin", "more/stamp.json"])
@pytest.mark.parametrize("hidden", ["", "."])
def test_nothing_is_removed_that_no_run_leaves(store, inside, hidden):
    folder, run = store
    path = folder / "runs" / f"{hidden}{run.id}" / inside
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    with pytest.raises(ValueError, match=r"holds (notes|checkpoints/(thesis|5/model)|more)\S*; expected nothing but"):
        runs.train_here(CONFIG, run.id, "code", folder / "runs", force=True)
    assert path.read_text() == "mine" and records.read(folder / "runs" / run.id) == run


def test_runs_are_kept_only_where_nothing_else_is(store, capsys):
    folder, run = store
    assert records.place(str(folder / "runs")) == folder / "runs"
    assert records.place(str(folder / "new" / "runs")) == folder / "new" / "runs" and not (folder / "new").exists()
    (folder / "empty").mkdir()
    assert records.place(str(folder / "empty")) == folder / "empty"
    (folder / "file").write_text("")
    (folder / "runs" / run.id / "thesis.tex").write_text("mine")
    for out, message in (("", "is ''; expected"), (folder, "holds empty, which"), (folder / "file", "is a file; expected")):
        with pytest.raises(SystemExit, match=message):
            __main__.main(["train", "X2", "--profile", "smoke", "--out", str(out)])
    with pytest.raises(ValueError, match=f"holds {run.id}, which is no run"):
        records.place(str(folder / "runs"))


class Unsendable(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one}\n{two}")
        self.file = open(os.devnull)  # noqa: SIM115


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (Unsendable("a", "b"), "Unsendable('a\\nb')"),
        (KeyError("x"), "KeyError('x')"),
        (ValueError("line\n  and line"), "line and line"),
        (RuntimeError(), "RuntimeError()"),
        (OSError(28, "No space left on device", "/there/file"), "[Errno 28] No space left on device: '/there/file'"),
    ],
)
def test_what_a_worker_raises_comes_as_a_sentence_with_the_label_of_its_run(monkeypatch, tmp_path, error, message):
    def fails(*_):
        raise error

    monkeypatch.setattr(runs, "train_here", fails)
    with pytest.raises(runs.RunFailed) as caught:
        runs._train_beside(0, CONFIG, "id", "code", tmp_path, False)
    here, there = Pipe()
    there.send(caught.value)
    assert str(here.recv()) == f"{CONFIG.label}: {message}"


def begin(out, *more):
    """``train`` in a session of its own, once its server runs; and how to find the processes of that session."""
    command = [sys.executable, "-m", "memlm", "train", "S64", "--profile", "cpu", "--out", str(out), *more]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, start_new_session=True, preexec_fn=hearing, **streams)

    def servers():
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                ours = os.getpgid(int(path.parent.name)) == process.pid
                found += [int(path.parent.name)] * (ours and "forkserver" in path.read_text())
        return found

    wait_for(lambda: servers() or process.poll() is not None)
    return process, servers


@pytest.mark.parametrize("when", ["at once", "while it trains"])
@pytest.mark.parametrize("what", ["interrupted", "killed"])
def test_a_command_that_is_interrupted_or_loses_a_process_says_so_in_a_sentence(tmp_path, when, what):
    process, servers = begin(tmp_path / "out")
    if when == "while it trains":
        wait_for(lambda: list(tmp_path.glob("out/.S64-*/checkpoints/0")))
    if what == "interrupted":
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does
    else:
        for server in servers():
            os.kill(server, signal.SIGKILL)
    said = process.communicate(timeout=60)[0].strip()
    assert "Traceback" not in said and "Warning" not in said and "EOFError" not in said
    if what == "interrupted":
        assert process.returncode == 130 and said.endswith("interrupted; what was finished is kept")
    else:
        assert process.returncode == 1 and "memlm: a process that trains was killed (" in said.splitlines()[-1]


def test_runs_lists_the_finished_ones_and_says_which_are_damaged(store, capsys):
    folder, run = store
    __main__.main(["runs"])
    assert capsys.readouterr().out == f"{run.id}  {run.stamp['date']}  {run.stamp['seconds']:.0f} s  {run.stamp['device']}\n"
    (folder / "runs" / "notes.txt").write_text("")
    (folder / "runs" / run.id / "stamp.json").write_text("null")
    __main__.main(["runs"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0].startswith(f"{run.id}  damaged: ") and lines[1].startswith("notes.txt  damaged: ")
    shutil.rmtree(folder / "runs")
    __main__.main(["runs"])
    assert capsys.readouterr().out.startswith("no finished runs in ")


PLANTED = [
    ("", "", "profiles.toml has no every"),
    ("[every.X2]", "[every.X2", "profiles.toml is no TOML"),
    ("[every.X2]", "[every.X22]", r"profiles.toml has no every.X2"),
    ("[smoke.S4]", "[smoke.S46]", r"profiles.toml, \[smoke\] has 'S46'; expected S4, "),
    ("lines = [640]", "linez = [640]", r"profiles.toml, \[smoke.S4\] has 'linez'; expected accumulate"),
    ("lines = [640]", "lines = 640", r"\[smoke.S4\] has lines = 640; expected a list of one or more whole numbers from 1"),
    ("lines = [640]", "lines = [0]", r"\[smoke.S4\] has lines = \[0\]; expected"),
    ("lines = [640]", "lines = []", r"\[smoke.S4\] has lines = \[\]; expected"),
    (
        "lines = [640]\nd_model = 32",
        "lines = [640]\nd_model = 33",
        r"\[smoke.S4\] makes no run: d_model is 33; expected",
    ),
    ("lr = 4e-3", "lr = nan", r"\[smoke.\w+\] makes no run: lr is nan; expected"),
    ("lr = 4e-3", "", r"\[smoke.\w+\] has no lr"),
    ("ff = 1", "ff = 'a'", r"\[smoke.\w+\] has ff of type str; expected int"),
    (
        "variants = [{ d_model = 32 }]",
        "variants = [3]",
        r"\[smoke.S64\] has variants = \[3\]; expected a list",
    ),
    ('like = "gpt2"', 'like = "X1"', r"\[every.X1\] is like 'X1'; expected another table"),
    ('corpus = "bytes"', 'corpus = ["bytes"]', r"\[\w+.X1\] has corpus of type list; expected str"),
    ('corpus = "bytes"', 'corpus = "bites"', r"\[\w+\] has no bites"),
    ('text = "mpmath-bytes"', 'txt = "mpmath-bytes"', r"\[smoke.bytes\] has 'txt'; expected budget, options, source, text"),
    ("seeds = [0, 1, 2]\ndownload = false", "download = false", r"\[smoke\] has no seeds"),
    ("download = false", "download = 0", r"\[smoke\] has download of type int; expected bool"),
]


@pytest.mark.parametrize(("before", "after", "message"), PLANTED)
def test_what_is_wrong_in_profiles_is_said_with_its_place(tmp_path, monkeypatch, before, after, message):
    text = experiments.PROFILES.read_text(encoding="utf8")
    assert before in text
    monkeypatch.setattr(experiments, "PROFILES", tmp_path / "profiles.toml")
    experiments.PROFILES.write_text(text.replace(before, after, 1) if before else "", encoding="utf8")
    experiments.profiles.cache_clear()
    try:
        with pytest.raises(ValueError, match=message):
            for experiment in experiments.EXPERIMENTS:
                experiments.configs(experiment, "smoke", from_records=True)
    finally:
        experiments.profiles.cache_clear()


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


def test_a_record_takes_the_place_of_one_that_other_code_has_made(store):
    folder, run = store
    old = folder / "records" / f"{run.id[:-8]}00000000"
    other = folder / "records" / f"X2-{'0' * 12}-00000000"
    for path in (old, other):
        shutil.copytree(folder / "runs" / run.id, path, ignore=shutil.ignore_patterns("checkpoints"))
    records.keep(run)
    assert sorted(path.name for path in (folder / "records").iterdir()) == sorted([run.id, other.name])


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
        (["train", "X2", "--profile", "smoke", "--seed", "-1"], "seed is -1; expected a whole number from 0 to 4294967295"),
        (
            ["train", "X2", "--profile", "smoke", "--seed", str(2**64)],
            "seed is 18446744073709551616; expected a whole number",
        ),
        (["train", "X2", "--profile", "smoke", "--seed", str(2**32 - 1)], "seed is 4294967296; expected a whole number"),
        (["train", "X9", "--profile", "smoke"], "experiment is 'X9'; expected one of X2"),
        (["train", "X2", "--profile", "big"], "profile is 'big'; expected one of smoke"),
    ],
)
def test_what_train_cannot_do_is_one_sentence(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        __main__.main(arguments)
    assert message in f"{caught.value} {capsys.readouterr().err}"


def test_a_run_that_force_began_goes_on_where_it_was_killed(tmp_path):
    (config,) = [c for c in experiments.configs("X1c", "smoke") if c.seed == 0 and "near" in c.data.source]
    config = replace(config, steps=4, warmup_steps=1, eval_every=1)
    id, code = records.run_id(config), records.training_code()
    first = runs.train_here(config, id, code, tmp_path)
    seen = []

    def stop(step, _tokens, _loss):
        seen.append(step)
        if step == 3:
            raise KeyboardInterrupt

    before = (tmp_path / id / "stamp.json").stat().st_ino
    with pytest.raises(KeyboardInterrupt):
        runs.train_here(config, id, code, tmp_path, stop, force=True)
    assert (tmp_path / id / "stamp.json").stat().st_ino == before, "what is stored stays until the new one is whole"
    seen.clear()
    (again,) = runs.load_or_train([config], folder=tmp_path)
    assert (tmp_path / id / "stamp.json").stat().st_ino != before and not (tmp_path / f".{id}").exists()
    bits = [[{k: v for k, v in m.items() if k not in train.CLOCK} for m in run.metrics] for run in (first, again)]
    assert bits[0] == bits[1]


def test_a_text_under_the_name_of_the_profiles_own_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "TEXT", tmp_path)
    table = experiments.profile("smoke")["bytes"]
    own = tmp_path / "own.txt"
    own.write_text("\n".join(f"Of all that is mine, this is number {i}." for i in range(200)))
    text.tokenise(table["text"], documents.text(own), "byte", into=tmp_path)
    monkeypatch.setattr(text, "folder_of", lambda name, into=tmp_path: into / name)
    with pytest.raises(ValueError, match=r"mpmath-bytes was made of text; expected documentation"):
        experiments.tokens(table)
    shutil.rmtree(tmp_path / table["text"])
    text.tokenise(table["text"], documents.source("documentation", **table["options"]), "bpe", vocabulary=300, into=tmp_path)
    with pytest.raises(ValueError, match=r"mpmath-bytes was made with tokenizer bpe; expected byte: delete "):
        experiments.tokens(table)


def test_a_seed_that_a_profile_shifts_too_far_is_no_fault_of_the_profile():
    with pytest.raises(ValueError, match=r"^seed is 4294967296; expected a whole number from 0"):
        experiments.configs("X1c", "smoke", 2**32 - 1)
