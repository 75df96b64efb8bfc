"""What is done with a GPU's minutes, tried without one.   ./run_tests.sh tests/test_gpu.py"""

import shutil
from dataclasses import replace

import pytest
import torch

from memlm import __main__, bench, corpora, experiments, gpu, records


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(bench, "RECORD", tmp_path / "bench.json")
    monkeypatch.setattr(gpu, "_tests", lambda *_: True)
    monkeypatch.setattr(gpu, "_bench", lambda *_: True)
    return tmp_path


def planned(monkeypatch, *configs):
    monkeypatch.setattr(gpu, "_configs", lambda name, data, rehearse: list(configs) if name == "X2" else [])


def lines(**changes):
    (config, *_) = experiments.configs("X1c", "smoke")
    return replace(config, steps=4, warmup_steps=1, eval_every=2, **changes)


def test_every_finished_run_is_in_the_folder_at_once_and_one_that_fails_costs_itself_alone(folders, monkeypatch, capsys):
    good, bad, last = lines(), lines(lr=1e30, seed=1), lines(seed=2)
    planned(monkeypatch, (good, 1), (bad, 1), (last, 1))
    kept, real, seen = folders / "out" / "records", gpu._run, []

    def run(config, into):
        seen.append(len(list(kept.glob("X1c-*"))))
        return real(config, into)

    monkeypatch.setattr(gpu, "_run", run)
    assert gpu.session(5, folders / "out", ["runs"], rehearse=True) is False
    assert seen == [0, 1, 1]
    assert {records.read(path).config["seed"] for path in kept.iterdir()} == {0, 2}
    assert not list(kept.glob("*/checkpoints"))
    printed = capsys.readouterr()
    assert "Diverged" in printed.err and "is not training" in printed.out
    trained = sorted((path, path.stat().st_mtime_ns) for path in (folders / "runs").glob("[!.]*/stamp.json"))
    assert gpu.session(5, folders / "out", ["runs"], rehearse=True) is False
    again = sorted((path, path.stat().st_mtime_ns) for path in (folders / "runs").glob("[!.]*/stamp.json"))
    assert again == trained, "what is finished is not trained again"


def test_nothing_is_begun_that_cannot_end_in_time(folders, monkeypatch, capsys):
    planned(monkeypatch, (lines(), 3), (lines(seed=1), 1))
    assert gpu.session(2, folders / "out", rehearse=not torch.cuda.is_available(), parts=["runs"])
    assert {records.read(path).config["seed"] for path in (folders / "out" / "records").iterdir()} == {1}
    assert "seed0: not begun, for it may take 3 minutes and 2.0 are left" in capsys.readouterr().out
    monkeypatch.setattr(gpu, "_bench", lambda *_: pytest.fail("bench was begun"))
    assert gpu.session(0.1, folders / "out", rehearse=True), "too short for anything"


def test_the_runs_come_in_the_order_of_their_worth_with_minutes_of_their_own(monkeypatch):
    monkeypatch.setattr(experiments, "configs", lambda name, profile, **_: [f"{profile} {i}" for i in range(3)])
    assert gpu.RUNS == ("X1", "X2", "S65")
    rehearsed = {name: [config for config, _ in gpu._configs(name, None, True)] for name in gpu.RUNS}
    assert rehearsed == {"X1": ["smoke 0", "smoke 1"], "X2": ["smoke 0"], "S65": []}
    for name in gpu.RUNS:
        assert {minutes for _, minutes in gpu._configs(name, None, False)} == {experiments.profile("gpu")[name]["minutes"]}


def test_what_has_no_record_yet_comes_first(folders, monkeypatch):
    begun, configs = [], [(lines(seed=seed), 1) for seed in range(4)]
    planned(monkeypatch, *configs)
    monkeypatch.setattr(records, "missing", lambda asked: [config for config in asked if config.seed in (1, 3)])
    monkeypatch.setattr(gpu, "_run", lambda config, kept: begun.append(config.seed) or True)
    assert gpu.session(5, folders / "out", ["runs"], rehearse=True)
    assert begun == [1, 3, 0, 2]


def test_a_text_that_cannot_be_had_costs_only_what_needs_it(folders, monkeypatch, capsys):
    begun, real = [], experiments.configs

    def configs(name, profile, **more):
        if name == "X2":
            return real("X1c", "smoke")
        raise corpora.CorpusError("openwebtext is out of reach")

    monkeypatch.setattr(experiments, "configs", configs)
    monkeypatch.setattr(gpu, "_run", lambda config, kept: begun.append(config.experiment) or True)
    assert gpu.session(5, folders / "out", rehearse=True) is False
    assert begun == ["X1c"]
    assert capsys.readouterr().err.count("CorpusError: openwebtext is out of reach") == 2
    monkeypatch.setattr(gpu, "_tests", lambda *_: pytest.fail("work was begun"))
    with pytest.raises(ValueError, match="no-such-text"):
        gpu.session(5, folders / "out", data="no-such-text", rehearse=True)


def test_a_part_that_breaks_does_not_end_the_session(folders, monkeypatch):
    def broken(*_):
        raise RuntimeError("the process of peak_memory was killed")

    monkeypatch.setattr(gpu, "_bench", broken)
    planned(monkeypatch, (lines(), 1))
    assert gpu.session(5, folders / "out", rehearse=True) is False
    assert len(list((folders / "out" / "records").iterdir())) == 1


def test_the_literal_sizes_are_those_of_the_paper_and_the_largest_is_met_once():
    x1, x2 = experiments.profile("gpu")["X1"], experiments.profile("gpu")["X2"]
    assert (x1["n_layer"], x1["d_model"], x1["n_head"], x1["context"]) == (12, 768, 12, 1024), "GPT-2 small"
    read = x1["steps"] * x1["batch_size"] * x1["context"]
    assert 0.99 * max(x1["tokens"]) < read < 1.01 * max(x1["tokens"])
    assert [v["n_layer"] for v in x2["variants"]] == [6, 10]
    assert (x2["d_model"], x2["n_head"], x2["batch_size"], x2["lr"], x2["dropout"]) == (512, 4, 8, 1e-4, 0.1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--minutes", "5"], "torch sees no GPU here; expected one, or --rehearse"),
        ([], "--minutes is missing; expected how long the GPU may be used"),
        (["--minutes", "0"], "minutes is 0.0; expected more than 0"),
        (["--minutes", "nan"], "minutes is nan; expected more than 0"),
        (["--minutes", "5", "--parts", "bench,tea"], "--parts has 'tea'; expected some of tests, bench, runs"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(arguments, sentence):
    with pytest.raises(SystemExit, match=sentence):
        __main__.main(["gpu", *arguments])


def test_a_folder_that_is_not_a_sessions_own_is_refused_before_any_work(folders, monkeypatch):
    monkeypatch.setattr(gpu, "_tests", lambda *_: pytest.fail("work was begun"))
    mine = folders / "mine"
    planned(monkeypatch, (lines(), 1))
    for name, content, sentence in (
        ("thesis.txt", "mine", r"holds thesis\.txt; expected an empty folder, or one of another session"),
        ("bench.json", '{"mine": 1}', r"bench\.json does not have the hash in its seal"),
        ("records/notes", "mine", r"holds notes, which is no run"),
    ):
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_text(content)
        with pytest.raises(ValueError, match=sentence):
            gpu.session(5, mine, rehearse=True)
        assert (mine / name).read_text() == content
        (mine / name).unlink()
    (folders / "file").write_text("")
    with pytest.raises((ValueError, OSError), match="file"):
        gpu.session(5, folders / "file", rehearse=True)


def test_runs_with_their_weights_are_never_replaced_by_records(folders, monkeypatch):
    planned(monkeypatch, (lines(), 1))
    assert gpu.session(5, folders / "out", ["runs"], rehearse=True)
    (run,) = (folders / "runs").glob("X1c-*")
    for folder in (folders / "out" / "records" / run.name, folders / "out" / "records" / f"{run.name[:-8]}01234567"):
        shutil.copytree(run, folder, dirs_exist_ok=True)
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        with pytest.raises(ValueError, match="is a run with its weights; expected a folder of records alone"):
            gpu.session(5, folders / "out", ["runs"], rehearse=True)
        with pytest.raises(ValueError, match="is a run with its weights"):
            records.keep(records.read(run), into=folders / "out" / "records")
        assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        shutil.rmtree(folder)


def test_minutes_are_a_number_above_zero():
    assert experiments.minutes("gpu.X1", {}) == 1
    for wrong in (0, -1, "2", True, float("nan")):
        with pytest.raises(ValueError, match=r"\[gpu.X1\] has minutes = .*; expected a number > 0"):
            experiments.minutes("gpu.X1", {"minutes": wrong})
