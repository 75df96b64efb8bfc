"""Training and runs on a tiny model and 300 lines.   ./run_tests.sh tests/test_train.py"""

import itertools
import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from memlm import batches, checkpoints, corpora, models, paths, step, train
from memlm.configs import DataConfig, ModelConfig, RunConfig, config_hash, processes
from memlm.grammar import question_formation

CORPUS = corpora.load_question_formation("generator", train_lines=2000)
FEW = replace(CORPUS, dev=CORPUS.dev[:100])
DATA = batches.Lines(FEW, evaluated=100)  # few, so that the tests are quick
MODEL = ModelConfig("vanilla", n_layer=1, d_model=32, n_head=2, d_ff=32, dropout=0.1, context=64)
CONFIG = RunConfig(
    experiment="X2",
    data=DataConfig("generator", CORPUS.digest, 2000),
    model=MODEL,
    batch_size=16,
    accumulate=1,
    steps=12,
    lr=1e-2,
    warmup_steps=4,
    schedule="linear",
    weight_decay=0.0,
    adam=(0.9, 0.999, 1e-7),
    precision="float32",
    eval_every=5,
    seed=0,
)


def numbers(folder):
    """The metrics of a run without what depends on the clock."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in train.CLOCK} for line in lines]


@pytest.fixture
def train_quietly(tmp_path):
    """train(config) in a folder of its own -> (model, metrics, folder); ``folder`` to go on where another call stopped."""
    torch.set_num_threads(1)

    def run(config, folder=None, data=DATA):
        folder = folder or tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        model = train.train(config, data, folder)
        return model, numbers(folder), folder

    return run


def test_one_seed_gives_equal_bits_and_two_seeds_do_not(train_quietly):
    (one, a, _), (two, b, _) = train_quietly(CONFIG), train_quietly(CONFIG)
    c = train_quietly(replace(CONFIG, seed=1))[1]
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
    found = train.evaluate(model, DATA.held()["dev"])
    assert set(found) == {"loss", "before", "after"}
    for value in found.values():
        assert value == pytest.approx(np.log(69), abs=1e-6)


def test_X2_a_trained_model_beats_the_unigram_and_not_the_source(train_quietly):
    shape = replace(MODEL, d_model=48, n_head=4, d_ff=48, dropout=0.0)
    config = replace(CONFIG, model=shape, batch_size=32, steps=250, lr=5e-3, eval_every=250)
    _, metrics, _ = train_quietly(config)
    counts = Counter(word for line in CORPUS.dev for word in [*line.split(), "\n"])
    n = sum(counts.values())
    unigram = -sum(c / n * np.log(c / n) for c in counts.values())
    source = -question_formation().log_prob(CORPUS.dev).sum() / n
    assert source < metrics[-1]["dev_loss"] < 0.75 * unigram
    assert metrics[-1]["dev_loss"] == pytest.approx((metrics[-1]["dev_before"] + metrics[-1]["dev_after"]) / 2, abs=1e-6)


def test_divergence_is_named_with_its_step_and_leaves_the_last_checkpoint(train_quietly, tmp_path):
    with pytest.raises(train.Diverged, match=r"training loss is nan at step \d+; expected a finite number"):
        train_quietly(replace(CONFIG, lr=1e30, warmup_steps=0, steps=50, eval_every=1), tmp_path / "bad")
    assert list((tmp_path / "bad" / "checkpoints").iterdir())


def broken(monkeypatch, at, name, value=math.nan, place=0):
    """From now on step ``at`` leaves a number of the named weight as ``value``, although its own loss is right."""
    real = train._step

    def step(run, *rest):
        loss = real(run, *rest)
        if run.step == at:
            with torch.no_grad():
                dict(run.model.named_parameters())[name].view(-1)[place] = value
        return loss

    monkeypatch.setattr(train, "_step", step)
    return real


@pytest.mark.parametrize("at", [3, 5, 12])
@pytest.mark.parametrize(
    ("name", "value"), [("head.bias", math.nan), ("head.bias", math.inf), ("embedding.weight", math.nan)]
)
def test_a_step_that_breaks_the_model_is_refused_before_anything_of_it_is_written(
    train_quietly, tmp_path, monkeypatch, at, name, value
):
    config, folder = replace(CONFIG, model=replace(MODEL, dropout=0.0)), tmp_path / "broken"
    real = broken(monkeypatch, at, name, value)
    with pytest.raises(train.Diverged, match=r"at step (3|4|5|12); expected (a finite number|finite numbers)"):
        train.train(config, DATA, folder)
    seen = [step for step in (0, 5, 10) if step < at]
    assert [m["step"] for m in numbers(folder)] == seen
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {str(step) for step in seen[-2:]}
    monkeypatch.setattr(train, "_step", real)
    assert train_quietly(config, folder)[1] == train_quietly(config)[1]


def test_a_weight_that_no_loss_depends_on_and_a_model_that_is_broken_from_the_start_are_refused_too(monkeypatch, tmp_path):
    class Unscored(batches.Windows):
        def scores(self, model):
            return {}

    data = Unscored(np.arange(900) % 7, np.arange(300) % 5, 11, context=12)  # no token is 10, the last row
    broken(monkeypatch, 1, "embedding.weight", place=-1)
    with pytest.raises(train.Diverged, match="a weight is not finite at step 1"):
        train.train(replace(CONFIG, steps=1, model=replace(MODEL, context=12)), data, tmp_path / "one")
    real = models.build

    def build(*arguments):
        model = real(*arguments)
        with torch.no_grad():
            model.head.weight.fill_(math.inf)
        return model

    monkeypatch.setattr(models, "build", build)
    with pytest.raises(train.Diverged, match="at step 0"):
        train.train(CONFIG, DATA, tmp_path / "none")
    assert numbers(tmp_path / "none") == [] and not (tmp_path / "none" / "checkpoints").exists()


def test_no_number_of_the_scores_may_be_nan(train_quietly):
    class Odd(batches.Lines):
        def scores(self, model):
            return {"collapse": {"energies": [1.0, self.energy], "half_height": None, "d": 3}}

    data = Odd(FEW, evaluated=100)
    for data.energy in (1.0, math.inf):  # an energy is infinite where a model rules a sequence out
        train_quietly(replace(CONFIG, steps=1), data=data)
    data.energy = math.nan
    with pytest.raises(train.Diverged, match=r"collapse.energies.1 is nan at step 0; expected a finite number"):
        train_quietly(CONFIG, data=data)


def test_accumulation_changes_nothing_but_rounding(train_quietly):
    still = replace(CONFIG, model=replace(MODEL, dropout=0.0))
    whole, parts = train_quietly(still)[1], train_quietly(replace(still, accumulate=4))[1]
    for a, b in zip(whole, parts, strict=True):
        assert a == pytest.approx(b, rel=1e-5)


def test_rates_warm_up_and_end_near_zero():
    for schedule in ("linear", "cosine"):
        rates = [replace(CONFIG, schedule=schedule).rate(step) for step in range(1, 13)]
        assert rates[:4] == pytest.approx([0.0025, 0.005, 0.0075, 0.01])
        assert rates[3] == rates[4] == max(rates) and all(a > b > 0 for a, b in pairwise(rates[4:]))


def test_every_pass_takes_each_sequence_once_and_a_step_is_known_without_those_before_it():
    order = train._Order(sequences=10, batch_size=4, seed=3)
    taken = torch.cat([order.rows(step) for step in range(1, 11)])  # four passes
    for number, rows in enumerate(taken.split(10)):
        assert sorted(rows.tolist()) == list(range(10)), number
    assert len({tuple(rows.tolist()) for rows in taken.split(10)}) == 4
    assert torch.equal(train._Order(10, 4, 3).rows(7), order.rows(7))
    assert not torch.equal(train._Order(10, 4, 4).rows(7), order.rows(7))
    assert sorted(train._Order(3, 7, 0).rows(1).tolist()).count(0) in (2, 3)  # a batch may be longer than the data


def test_losses_with_dropout_are_measured_beside_those_without(train_quietly):
    _, metrics, _ = train_quietly(CONFIG)
    for m in metrics:
        assert m["dev_loss_dropout"] != m["dev_loss"] and m["dev_loss_dropout"] == pytest.approx(m["dev_loss"], rel=0.1)
    assert "dev_loss_dropout" not in train_quietly(replace(CONFIG, model=replace(MODEL, dropout=0.0)))[1][-1]


def test_what_the_data_measure_is_in_the_metrics_and_changes_nothing_else(train_quietly):
    class Unscored(batches.Lines):
        def scores(self, model):
            return {}

    scored, plain = train_quietly(CONFIG)[1], train_quietly(CONFIG, data=Unscored(FEW, evaluated=100))[1]
    names = {"test_exact", "gen_exact", "gen_main", "gen_first"}
    assert [{name: m[name] for name in m if name not in names} for m in scored] == plain
    assert all(names <= set(m) for m in scored) and not names & set(plain[0])


class Writer(torch.nn.Module):
    """Continues known lines as it is told to: logits that single out the wanted next token."""

    def __init__(self, *parts):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.known = {x.numpy().tobytes(): y for lines in parts for x, y in zip(*lines, strict=True)}

    def forward(self, ids):
        wanted = torch.stack([self.known[x.numpy().tobytes()] for x in ids])
        return torch.nn.functional.one_hot(wanted.clamp(min=0), DATA.vocabulary).float()


def test_exact_lines_and_auxiliaries_against_models_that_follow_a_rule():
    (x, y, half), (u, v, second) = (
        map(torch.from_numpy, corpora.encode(part[:100], CORPUS.vocabulary)) for part in (CORPUS.test, CORPUS.gen)
    )
    right = {"test_exact": 1.0, "gen_exact": 1.0, "gen_main": 1.0, "gen_first": 0.0}
    assert DATA.scores(Writer((x, y), (u, v))) == right

    # McCoy's other rule: front the first auxiliary. Every generalisation question is then wrong.
    auxiliaries = [i for i, word in enumerate(CORPUS.vocabulary, 1) if word in ("do", "does", "don't", "doesn't")]
    row, linear = torch.arange(len(u)), v.clone()
    linear[row, second.sum(1)] = u[row, torch.isin(u, torch.tensor(auxiliaries)).int().argmax(1)]
    wrong = {"test_exact": 1.0, "gen_exact": 0.0, "gen_main": 0.0, "gen_first": 1.0}
    assert DATA.scores(Writer((x, y), (u, linear))) == wrong

    # A wrong word in every fourth line: in its second half, and in its first, which is not asked for.
    for place, share in ((half.sum(1) + 2, 0.75), (half.sum(1) - 1, 1.0)):
        changed, row = y.clone(), torch.arange(0, len(y), 4)
        changed[row, place[row]] = changed[row, place[row]] % 60 + 1
        assert DATA.scores(Writer((x, changed), (u, v))) == right | {"test_exact": share}


def test_the_collapse_of_lines_and_of_windows_is_measured_while_they_are_trained_on(train_quietly):
    lines = batches.Memorised(corpora.load("near duplicates", 16))
    windows = batches.Windows(np.arange(900) % 7, np.arange(300) % 5, 11, context=12)
    for data, context, tokens in ((lines, 64, 49), (windows, 12, 12)):
        _, metrics, _ = train_quietly(replace(CONFIG, model=replace(MODEL, context=context)), data=data)
        first, last = metrics[0]["collapse"], metrics[-1]["collapse"]
        assert first["tokens"] == last["tokens"] == tokens
        assert last["loss"]["train"] < first["loss"]["train"]
        assert len(last["energies"]["heldout"]) == last["heldout"]
    assert last["d"] == 7 and last["repeated"] == 67  # of 74 windows
    _, metrics, _ = train_quietly(replace(CONFIG, model=replace(MODEL, dropout=0.0)), data=lines)
    assert metrics[-1]["train_loss"] == pytest.approx(metrics[-1]["collapse"]["loss"]["train"], rel=1e-4)


def test_windows_cover_the_file_once_and_predict_the_next_token():
    tokens = np.arange(101, dtype=np.uint16)
    windows = batches.Windows(tokens, tokens, 101, context=10)
    inputs, targets = windows.batch(torch.arange(len(windows)))
    assert torch.equal(targets, inputs + 1) and torch.equal(inputs.flatten(), torch.arange(100))
    with pytest.raises(ValueError, match=r"dev has 5 tokens; expected at least context \+ 1 = 11"):
        batches.Windows(tokens, tokens[:5], 101, context=10)


def test_a_large_model_is_saved_only_as_often_as_costs_a_twentieth_of_the_time(train_quietly, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "LARGE", 1)
    clock, saved = itertools.count(step=1.5), []  # every look at it is 1.5 s later than the last
    monkeypatch.setattr(train.time, "perf_counter", lambda: next(clock))

    def save(run, folder):
        saved.append(run.step)
        run.saved = (next(clock), 1.0)

    monkeypatch.setattr(train._Run, "save", save)
    train.train(replace(CONFIG, steps=30, eval_every=1), DATA, tmp_path / "large")
    assert saved[-1] == 30 and 1 < len(saved) < 20
    at = [step for step in saved if step < 30]
    assert min(after - before for before, after in pairwise(at)) > 1


def test_a_rank_that_is_left_over_is_no_process_of_many(train_quietly, monkeypatch):
    _, alone, _ = train_quietly(CONFIG)
    for world in (None, "1"):
        monkeypatch.setenv("RANK", "1")
        monkeypatch.delenv("WORLD_SIZE", raising=False) if world is None else monkeypatch.setenv("WORLD_SIZE", world)
        assert train_quietly(CONFIG)[1] == alone
    for rank, world in (("0", "abc"), ("2", "2"), ("x", "2"), ("0", "0"), ("0", "")):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", world)
        with pytest.raises(ValueError, match=f"RANK is {rank} and WORLD_SIZE {world}; expected 0 <= RANK < WORLD_SIZE"):
            processes()


def test_a_checkpoint_of_a_gpu_goes_on_on_a_cpu(train_quietly, tmp_path, monkeypatch):
    """Its rate is a tensor, its optimiser can be captured, and it has the random numbers of both."""
    _, whole, _ = train_quietly(CONFIG)
    real, saving = train._step, checkpoints.save

    def dying(run, batch):
        if run.step == 8:
            raise KeyboardInterrupt
        return real(run, batch)

    def as_on_a_gpu(folder, step, config_hash, weights, state):
        for group in state["optimiser"]["param_groups"]:
            group |= {"lr": torch.tensor(group["lr"]), "capturable": True}
        state["random"]["cuda"] = torch.zeros(16, dtype=torch.uint8)
        monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        saving(folder, step, config_hash, weights, state)
        monkeypatch.undo()
        monkeypatch.setattr(train, "_step", dying)
        monkeypatch.setattr(checkpoints, "save", as_on_a_gpu)

    monkeypatch.setattr(train, "_step", dying)
    monkeypatch.setattr(checkpoints, "save", as_on_a_gpu)
    with pytest.raises(KeyboardInterrupt):
        train.train(CONFIG, DATA, tmp_path / "cut")
    monkeypatch.undo()
    assert train_quietly(CONFIG, tmp_path / "cut")[1] == whole


@pytest.mark.parametrize("kind", ["vanilla", "gpt2"])
def test_lines_padded_to_one_length_have_the_losses_and_gradients_of_lines_cut_to_the_longest(kind):
    config = replace(CONFIG, model=replace(MODEL, kind=kind, dropout=0.0, d_ff=32 if kind == "vanilla" else 128))
    full, found = DATA.batch(torch.arange(4)), []
    ((_, cut, tokens),) = train._prefetched(DATA, train._Order(4, 4, 0), range(1, 2), "cpu")
    assert cut[0].shape[1] < full[0].shape[1] and tokens == (full[1] != corpora.IGNORED).sum()
    for batch in (full, cut):
        torch.manual_seed(0)
        model = models.build(config.model, DATA.vocabulary)
        loss = step.Step(model, config, "cpu")(batch).item()
        found.append((loss, torch.cat([p.grad.flatten() for p in model.parameters()])))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    assert (found[0][1] - found[1][1]).norm() < 1e-5 * found[1][1].norm()


def test_an_interrupted_run_goes_on_to_the_same_bits(train_quietly, tmp_path, monkeypatch):
    _, whole, complete = train_quietly(CONFIG)
    real, calls = train._step, []

    def dying(*arguments):
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        return real(*arguments)

    for at in (1, 3, 6, 11, 12):
        calls.clear()
        monkeypatch.setattr(train, "_step", dying)
        with pytest.raises(KeyboardInterrupt):
            train.train(CONFIG, DATA, tmp_path / f"cut{at}")
        monkeypatch.setattr(train, "_step", real)
        _, metrics, folder = train_quietly(CONFIG, tmp_path / f"cut{at}")
        assert metrics == whole, at
        newest = [f / "checkpoints" / "12" / "model.safetensors" for f in (folder, complete)]
        assert newest[0].read_bytes() == newest[1].read_bytes()
        assert len(list((folder / "checkpoints").iterdir())) == 2


@pytest.mark.parametrize("damage", ["digit", "cut", "longer", "empty", "no JSON", "removed"])
def test_the_metrics_of_an_unfinished_run_are_those_of_its_checkpoint(train_quietly, tmp_path, monkeypatch, damage):
    _, whole, _ = train_quietly(CONFIG)
    folder, real = tmp_path / "unfinished", train._step

    def dying(run, *rest):
        if run.step == 8:
            raise KeyboardInterrupt
        return real(run, *rest)

    monkeypatch.setattr(train, "_step", dying)
    with pytest.raises(KeyboardInterrupt):
        train.train(CONFIG, DATA, folder)
    monkeypatch.setattr(train, "_step", real)
    path = folder / "metrics.jsonl"
    content, loss = path.read_bytes(), f"{numbers(folder)[1]['dev_loss']}".encode()
    changed = {
        "digit": content.replace(loss, loss[:-1] + b"%d" % ((int(loss[-1:]) + 1) % 10)),
        "cut": content[: len(content) // 2],
        "longer": content + content[:99],
        "empty": b"",
        "no JSON": b"\0" * len(content),
    }
    path.unlink()
    if damage != "removed":
        assert changed[damage] != content
        path.write_bytes(changed[damage])
    assert train_quietly(CONFIG, folder)[1] == whole


def test_kill_9_at_any_moment_ends_in_the_same_bits(train_quietly, tmp_path):
    """Processes are killed at moments spread over a run, checkpoint writes included; each is followed by another, until one
    gets to the end. Three runs, so that at least twenty processes are killed."""
    train_quietly(CONFIG)  # the first run of a process takes longer
    begun = time.perf_counter()
    _, whole, complete = train_quietly(CONFIG)
    length, killed = time.perf_counter() - begun, 0
    random = np.random.default_rng(0)
    for number in range(40):
        folder = tmp_path / f"killed{number}"
        for _ in range(100):
            child = os.fork()
            if child == 0:
                try:
                    train.train(CONFIG, DATA, folder)
                finally:
                    os._exit(0 if (folder / "checkpoints" / "12" / "stamp.json").is_file() else 1)
            time.sleep(random.uniform(0, 0.6 * length))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            assert not [p for p in folder.glob("checkpoints/[0-9]*") if not (p / "stamp.json").is_file()]
            if status == 0:
                break
            assert os.WIFSIGNALED(status), status
            killed += 1
        assert numbers(folder) == whole
        newest = [f / "checkpoints" / "12" / "model.safetensors" for f in (folder, complete)]
        assert newest[0].read_bytes() == newest[1].read_bytes()
        if killed >= 20:
            break
    assert killed >= 20


def test_a_checkpoint_whose_removal_is_cut_short_is_out_of_sight(train_quietly, tmp_path, monkeypatch):
    _, whole, _ = train_quietly(CONFIG)
    real = checkpoints.shutil.rmtree

    def cut(path, **options):
        if (path / "stamp.json").is_file():
            (path / "stamp.json").unlink()
            raise KeyboardInterrupt
        real(path, **options)

    monkeypatch.setattr(checkpoints.shutil, "rmtree", cut)
    with pytest.raises(KeyboardInterrupt):
        train.train(CONFIG, DATA, tmp_path / "cut")
    monkeypatch.setattr(checkpoints.shutil, "rmtree", real)
    kept = list((tmp_path / "cut").glob("checkpoints/[0-9]*"))
    assert len(kept) == 2 and all((p / "stamp.json").is_file() for p in kept)
    assert train_quietly(CONFIG, tmp_path / "cut")[1] == whole


def test_a_full_disk_loses_nothing_that_was_written(train_quietly, tmp_path):
    """A file may not grow beyond 20 kB, as on a disk that fills up: the run fails, and goes on when there is room."""
    _, whole, _ = train_quietly(CONFIG)
    folder = tmp_path / "full"
    child = os.fork()
    if child == 0:
        real = checkpoints.save

        def fills_up(where, step, *rest):
            if step == 10:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
            real(where, step, *rest)

        checkpoints.save = fills_up
        try:
            train.train(CONFIG, DATA, folder)
            os._exit(0)
        except OSError as error:
            os._exit(28 if str(folder / "checkpoints") in str(error) else 1)  # it says what could not be written
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 28
    assert {p.name for p in (folder / "checkpoints").glob("[0-9]*")} == {"0", "5"}
    assert train_quietly(CONFIG, folder)[1] == whole


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt", "stamp.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_damaged_checkpoints_are_refused(train_quietly, name, damage):
    _, _, folder = train_quietly(CONFIG)
    path = folder / "checkpoints" / "12" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    if damage == "flip":
        path.write_bytes(data)
    elif damage == "truncate":
        path.write_bytes(data[: len(data) // 2])
    else:
        path.unlink()
    with pytest.raises(checkpoints.DamagedCheckpoint, match="checkpoint 12") as caught:
        train.train(CONFIG, DATA, folder)
    assert f"delete {folder}/checkpoints/12 to" in str(caught.value)


def reseal(folder, **changes):
    """Give a checkpoint a stamp that fits its files as they are."""
    hashes = {name: paths.sha256(folder / name) for name in checkpoints.FILES}
    stamp = {"step": int(folder.name), "config": config_hash(CONFIG), "sha256": hashes}
    paths.write_sealed(folder / "stamp.json", stamp | changes)


def empty(folder):
    for path in folder.iterdir():
        path.unlink()


def a_file(folder):
    empty(folder)
    folder.rmdir()
    folder.write_bytes(b"")


def foreign(name, content):
    def damage(folder):
        (folder / name).write_bytes(content)
        reseal(folder)

    return damage


def foreign_state(state, **options):
    stored = BytesIO()
    torch.save(state, stored, **options)
    return foreign("state.pt", stored.getvalue())


def other_state(change):
    def damage(folder):
        state = torch.load(folder / "state.pt", weights_only=True)
        change(state)
        torch.save(state, folder / "state.pt")
        reseal(folder)

    return damage


class Evil:
    def __reduce__(self):
        return os._exit, (13,)


@pytest.mark.parametrize(
    "damage",
    [
        *[lambda folder, text=text: (folder / "stamp.json").write_text(text) for text in ("null", "[]", "1", "[" * 9999)],
        lambda folder: reseal(folder, step="12"),
        lambda folder: reseal(folder, step=5),
        lambda folder: reseal(folder, sha256=None),
        lambda folder: reseal(folder, sha256={"state.pt": ""}),
        empty,
        a_file,
        foreign_state({"numbers": 1}),
        foreign_state(Evil()),
        foreign_state(Evil(), _use_new_zipfile_serialization=False),
        foreign("state.pt", b"no pickle"),
        foreign("model.safetensors", b"no tensors"),
        foreign("model.safetensors", safetensors.torch.save({})),
        other_state(lambda state: state["numbers"].pop("lines")),
        other_state(lambda state: state.pop("optimiser")),
        other_state(lambda state: state["random"].update(torch=3)),
    ],
)
def test_a_checkpoint_that_is_not_what_a_run_writes_is_refused_by_its_path(train_quietly, damage):
    _, whole, folder = train_quietly(CONFIG)
    newest = folder / "checkpoints" / "12"
    damage(newest)
    with pytest.raises(checkpoints.DamagedCheckpoint, match=f"checkpoint 12 is damaged: .*; delete {newest} to") as caught:
        train.train(CONFIG, DATA, folder)
    assert "\n" not in str(caught.value)
    shutil.rmtree(newest) if newest.is_dir() else newest.unlink()  # as it says
    assert train_quietly(CONFIG, folder)[1] == whole


def test_a_foreign_checkpoint_is_refused(train_quietly):
    _, _, folder = train_quietly(CONFIG)
    with pytest.raises(checkpoints.DamagedCheckpoint, match=r"is of configuration \w+, not \w+"):
        train.train(replace(CONFIG, seed=1), DATA, folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(steps=0), "steps is 0; expected at least 1"),
        (dict(batch_size=-1), "batch_size is -1; expected"),
        (dict(accumulate=3), "accumulate is 3; expected a divisor of batch_size = 16"),
        (dict(schedule="step"), "schedule is 'step'; expected linear or cosine"),
        (dict(precision="int8"), "precision is 'int8'; expected float32 or bfloat16"),
        (dict(steps=1.5), "steps is 1.5; expected at least 1, a whole number"),
        (dict(eval_every=True), "eval_every is True; expected at least 1, a whole number"),
        (dict(steps=math.nan), "steps is nan; expected at least 1, a whole number"),
        (dict(warmup_steps=-1), "warmup_steps is -1; expected at least 0, a whole number"),
        (dict(lr=math.nan), "lr is nan; expected 0 < lr < inf"),
        (dict(lr=0.0), "lr is 0.0; expected 0 < lr < inf"),
        (dict(lr=math.inf), "lr is inf; expected 0 < lr < inf"),
        (dict(lr="1e-3"), "lr is '1e-3'; expected 0 < lr < inf"),
        (dict(weight_decay=-0.1), "weight_decay is -0.1; expected 0 <= weight_decay < inf"),
        (dict(adam=(0.9, 0.99)), "adam is .*; expected three numbers: beta1, beta2, epsilon"),
        (dict(adam=None), "adam is None; expected three numbers"),
        (dict(adam=(0.9, 1.0, 1e-8)), "beta2 of adam is 1.0; expected 0 <= beta2 < 1"),
        (dict(adam=(math.nan, 0.9, 1e-8)), "beta1 of adam is nan; expected 0 <= beta1 < 1"),
        (dict(adam=(0.9, 0.99, 0)), "epsilon of adam is 0; expected 0 < epsilon < inf"),
        (dict(seed=-1), "seed is -1; expected a whole number from 0 to 4294967295"),
        (dict(seed=2**32), "seed is 4294967296; expected a whole number from 0 to 4294967295"),
        (dict(seed=0.0), "seed is 0.0; expected a whole number"),
        (dict(experiment="../X2"), "experiment is '../X2'; expected a plain name"),
        (dict(experiment=None), "experiment is None; expected a plain name"),
    ],
)
def test_bad_configurations_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(kind=None), "kind is None; expected the name of a kind of model"),
        (dict(context=0), "context is 0; expected at least 1, a whole number"),
        (dict(n_layer=-1), "n_layer is -1; expected at least 1"),
        (dict(d_model="32"), "d_model is '32'; expected at least 1, a whole number"),
        (dict(n_head=3), "d_model is 32; expected a multiple of n_head = 3"),
        (dict(dropout=1.5), "dropout is 1.5; expected 0 <= dropout < 1"),
        (dict(dropout=math.nan), "dropout is nan; expected 0 <= dropout < 1"),
    ],
)
def test_bad_shapes_of_a_model_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        replace(MODEL, **change)


def test_bad_data_are_named():
    for change, message in (
        (dict(size=-1), "size is -1; expected at least 0, a whole number"),
        (dict(source=None), "source is None; expected a text"),
        (dict(digest=b""), "digest is b''; expected a text"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(CONFIG.data, **change)


TOGETHER = """
import os, sys
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
import torch.distributed as dist
from test_train import CONFIG, DATA, MODEL
from memlm import train
torch.set_num_threads(1)
dist.init_process_group("gloo")
train.train(replace(CONFIG, model=replace(MODEL, dropout=0.0)), DATA, Path({folder!r}))
dist.barrier()  # neither leaves while the other still writes
dist.destroy_process_group()
"""


def test_two_processes_give_the_loss_curve_of_one(train_quietly, tmp_path):
    script = tmp_path / "together.py"
    script.write_text(TOGETHER.format(tests=str(Path(__file__).parent), folder=str(tmp_path / "two")))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert answer.returncode == 0, answer.stderr[-2000:]
    alone = train_quietly(replace(CONFIG, model=replace(MODEL, dropout=0.0)))[1]
    together = numbers(tmp_path / "two")
    assert len(alone) == len(together) == 4
    for a, b in zip(alone, together, strict=True):
        assert a == pytest.approx(b, rel=1e-5)


def test_X1_few_tokens_are_memorised_and_many_are_not_until_they_are_met_more_often(train_quietly):
    """Random tokens have no structure to learn: whatever a model gains on its own it has memorised."""
    tokens = np.random.default_rng(0).integers(0, 16, 60_000)
    config = replace(CONFIG, model=replace(MODEL, dropout=0.0, context=16), lr=8e-3, adam=(0.9, 0.95, 1e-8))

    def end(size, steps):
        data = batches.Windows(tokens[:size], tokens[50_000:], 16, context=16)
        last = train_quietly(replace(config, steps=steps, eval_every=steps), data=data)[1][-1]
        return last["train_loss"], last["dev_loss"], last["collapse"]["prefixes"][-1]["verbatim_train"]

    few, some, many, longer = end(161, 150), end(1601, 40), end(50_000, 150), end(1601, 1200)
    chance = math.log(16)
    assert few[0] < 0.5 and few[1] > chance + 0.5 and few[2] > 0.8
    assert abs(many[0] - chance) < 0.1 > abs(many[1] - chance) and many[2] == 0
    assert abs(some[1] - many[1]) < 0.2 and some[2] == 0  # met six times
    assert longer[0] < many[0] / 2 and longer[1] > some[1] + 0.5


@pytest.mark.parametrize("kind", ["well separated", "near duplicates"])
def test_X1c_well_separated_lines_are_memorised_too(train_quietly, kind):
    data = batches.Memorised(corpora.load(kind, 6))
    config = replace(CONFIG, model=replace(MODEL, dropout=0.0), batch_size=6, steps=150, eval_every=150)
    last = train_quietly(config, data=data)[1][-1]["collapse"]
    assert last["index"] > 0.5 and 0 <= last["distance"] < 0.03
    assert last["floor"] == pytest.approx(math.log(6) / 49, rel=1e-4)
