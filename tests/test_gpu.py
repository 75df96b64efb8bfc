"""What is done with a GPU's minutes, tried without one.   ./run_tests.sh tests/test_gpu.py"""

import pytest
import torch

from memlm import __main__, bench, experiments, gpu, records


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(bench, "RECORD", tmp_path / "bench.json")
    monkeypatch.setattr(gpu, "_tests", lambda: True)
    return tmp_path


def tiny(monkeypatch, *configs):
    monkeypatch.setattr(gpu, "_runs", lambda data, rehearse: iter(configs))


def lines(**changes):
    from dataclasses import replace

    (config, *_) = experiments.configs("X1c", "smoke")
    return replace(config, steps=4, warmup_steps=1, eval_every=2, **changes)


def test_every_finished_run_is_in_the_folder_at_once_and_one_that_fails_costs_itself_alone(folders, monkeypatch, capsys):
    good, bad, last = lines(), lines(lr=1e30, seed=1), lines(seed=2)
    tiny(monkeypatch, (good, 1), (bad, 1), (last, 1))
    seen, real = [], gpu._run
    monkeypatch.setattr(gpu, "_run", lambda config, out: (real(config, out), seen.append(len(list(out.glob("X1c-*")))))[0])
    assert gpu.session(5, folders / "out", ["runs"], rehearse=True) is False
    assert seen == [1, 1, 2]
    kept = [records.read(path) for path in (folders / "out").iterdir()]
    assert {run.config["seed"] for run in kept} == {0, 2}
    assert all(not (folders / "out" / run.id / "checkpoints").exists() for run in kept)
    printed = capsys.readouterr()
    assert "Diverged" in printed.err and "is not training" in printed.out
    trained = len(list((folders / "runs").glob("[!.]*")))
    assert gpu.session(5, folders / "out", ["runs"], rehearse=True) is False
    assert len(list((folders / "runs").glob("[!.]*"))) == trained, "what is finished is not trained again"


def test_nothing_is_begun_that_cannot_end_in_time(folders, monkeypatch, capsys):
    tiny(monkeypatch, (lines(), 3), (lines(seed=1), 1))
    monkeypatch.setattr(gpu, "_bench", lambda *_, **__: pytest.fail("bench was begun"))
    assert gpu.session(2, folders / "out", rehearse=not torch.cuda.is_available(), parts=["runs"])
    assert {records.read(path).config["seed"] for path in (folders / "out").iterdir()} == {1}
    assert "seed0: not begun, for it may take 3 minutes and 2.0 are left" in capsys.readouterr().out
    assert gpu.session(0.1, folders / "out", rehearse=True), "too short for anything"


def test_the_runs_come_in_the_order_of_their_worth_with_minutes_of_their_own(monkeypatch):
    monkeypatch.setattr(
        experiments, "configs", lambda name, profile, **_: [f"{profile} {name} {i}" for i in range(3)]
    )  # without OpenWebText
    assert [name for name, _ in gpu._runs(None, True)] == ["smoke X1 0", "smoke X1 1", "smoke X2 0"]
    found = list(gpu._runs(None, False))
    assert [name.split()[1] for name, _ in found] == ["X1"] * 3 + ["X2"] * 3 + ["S65"] * 3
    assert all(minutes == experiments.profile("gpu")[name.split()[1]]["minutes"] for name, minutes in found)


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


def test_a_folder_that_holds_anything_else_is_refused_before_any_work(folders, monkeypatch):
    (folders / "out").mkdir()
    (folders / "out" / "thesis.txt").write_text("mine")
    monkeypatch.setattr(gpu, "_tests", lambda: pytest.fail("work was begun"))
    with pytest.raises(ValueError, match=r"holds thesis\.txt, which is no run"):
        gpu.session(5, folders / "out", rehearse=True)


def test_minutes_are_a_number_above_zero():
    assert experiments.minutes("gpu.X1", {}) == 1
    for wrong in (0, -1, "2", True, float("nan")):
        with pytest.raises(ValueError, match=r"\[gpu.X1\] has minutes = .*; expected a number > 0"):
            experiments.minutes("gpu.X1", {"minutes": wrong})
