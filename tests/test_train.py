"""Training and runs on a tiny model and 300 lines.   ./run_tests.sh tests/test_train.py"""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from memlm import corpora, models, runs, train
from memlm.grammar import question_formation

CORPUS = corpora.load_question_formation("generator", train_lines=2000)
CONFIG = train.RunConfig(
    experiment="X2",
    source="generator",
    digest=CORPUS.digest,
    train_lines=2000,
    n_layer=1,
    d_model=32,
    n_head=2,
    d_ff=32,
    dropout=0.1,
    batch_size=16,
    steps=12,
    lr=1e-2,
    warmup_steps=4,
    eval_every=5,
    seed=0,
)


def train_quietly(config):
    torch.set_num_threads(1)
    seen = []
    model = train.train(config, CORPUS, seen.append)
    return model, [{k: v for k, v in m.items() if k != "seconds"} for m in seen]


def test_one_seed_gives_equal_bits_and_two_seeds_do_not():
    (one, a), (two, b), (_, c) = train_quietly(CONFIG), train_quietly(CONFIG), train_quietly(replace(CONFIG, seed=1))
    assert a == b
    assert a != c
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), two.parameters(), strict=True))
    assert [m["step"] for m in a] == [0, 5, 10, 12]


def test_the_model_is_causal_and_has_the_parameters_of_the_formula():
    model = models.VanillaTransformer(69, 2, 32, 4, 48, 0.0).eval()
    ids = torch.randint(0, 69, (3, 20), generator=torch.Generator().manual_seed(0))
    changed = ids.clone()
    changed[:, 12] = (changed[:, 12] + 1) % 69
    before, after = model(ids), model(changed)
    assert torch.equal(before[:, :12], after[:, :12])
    assert not torch.allclose(before[:, 12:], after[:, 12:])
    layer = 4 * 32 * 32 + 4 * 32 + 2 * 32 * 48 + 48 + 32 + 4 * 32  # attention, feed-forward, two norms
    assert sum(p.numel() for p in model.parameters()) == 69 * 32 + 2 * layer + 32 * 69 + 69
    with pytest.raises(ValueError, match="d_model is 33; expected a multiple of n_head = 4"):
        models.VanillaTransformer(69, 2, 33, 4, 48, 0.0)


def test_losses_are_means_over_predicted_tokens_in_nats():
    model = models.VanillaTransformer(69, 1, 32, 2, 32, 0.0)
    for parameter in model.head.parameters():
        torch.nn.init.zeros_(parameter)  # the uniform model
    part = tuple(map(torch.from_numpy, corpora.encode(CORPUS.dev[:50], CORPUS.vocabulary)))
    for value in train.evaluate(model, part).values():
        assert value == pytest.approx(np.log(69), abs=1e-6)


def test_X2_a_trained_model_beats_the_unigram_and_not_the_source():
    config = replace(CONFIG, d_model=48, n_head=4, d_ff=48, dropout=0.0, batch_size=32, steps=250, lr=5e-3, eval_every=250)
    _, metrics = train_quietly(config)
    counts = Counter(word for line in CORPUS.dev for word in [*line.split(), "\n"])
    n = sum(counts.values())
    unigram = -sum(c / n * np.log(c / n) for c in counts.values())
    source = -question_formation().log_prob(CORPUS.dev).sum() / n
    assert source < metrics[-1]["dev_loss"] < 0.75 * unigram
    assert metrics[-1]["dev_loss"] == pytest.approx((metrics[-1]["dev_before"] + metrics[-1]["dev_after"]) / 2, abs=1e-6)


def test_divergence_is_named_with_its_step():
    with pytest.raises(train.Diverged, match=r"training loss is nan at step \d+; expected a finite number"):
        train_quietly(replace(CONFIG, lr=float("inf"), warmup_steps=0))


@pytest.mark.parametrize(("field", "value"), [("steps", 0), ("batch_size", -1), ("dropout", 1.0)])
def test_bad_configurations_are_named(field, value):
    with pytest.raises(ValueError, match=f"{field} is {value}; expected"):
        replace(CONFIG, **{field: value})


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(runs, "RECORDS", tmp_path / "records")
    run = runs.train_here(CONFIG, runs.run_id(CONFIG), runs.training_code())
    return tmp_path, run


def test_a_finished_run_is_read_and_not_trained_again(store, monkeypatch):
    folder, run = store
    assert [p.name for p in (folder / "runs").iterdir()] == [run.id]
    monkeypatch.setattr(runs, "train_here", None)
    assert runs.load_or_train([CONFIG]) == [run]
    assert run.stamp["device"] and run.stamp["versions"]["torch"] == torch.__version__
    steps, losses = run.column("dev_loss")
    assert steps == (0, 5, 10, 12) and len(losses) == 4
    with pytest.raises(KeyError, match="has no metric 'accuracy'"):
        run.column("accuracy")


def test_records_are_found_by_configuration_alone_and_say_when_the_code_has_changed(store, monkeypatch):
    folder, run = store
    with pytest.raises(LookupError, match="holds no record of"):
        runs.load_or_train([CONFIG], from_records=True)
    runs.keep_record(run)
    (kept,) = [runs.find_record(CONFIG, folder / "records")]
    assert kept == run
    monkeypatch.setattr(runs, "training_code", lambda: "0" * 16)
    assert runs.find_record(CONFIG, folder / "records").outdated
    assert runs.find_record(replace(CONFIG, seed=9), folder / "records") is None


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
    with pytest.raises(runs.DamagedRun, match=run.id):
        runs.load_or_train([CONFIG])


def test_runs_side_by_side_in_other_processes_give_the_same_bits_as_one_here(store, capfd):
    _, run = store
    (again,) = runs.load_or_train([CONFIG], force=True)
    clean = [[{k: v for k, v in m.items() if k != "seconds"} for m in r.metrics] for r in (run, again)]
    assert clean[0] == clean[1]
    assert json.dumps(run.config) == json.dumps(again.config)
