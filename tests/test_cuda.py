"""Training on a GPU: the numbers are the CPU's, nothing waits, and a captured step is the step.   pytest -m cuda tests"""

import gc
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from memlm import batches, bench, collapse, loss, models, step, train
from memlm.configs import DataConfig, ModelConfig, RunConfig
from memlm.corpora import IGNORED

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")]

SHAPES = {
    "gpt2": ModelConfig("gpt2", 2, 64, 4, 256, 0.0, 32),
    "vanilla": ModelConfig("vanilla", 2, 64, 4, 64, 0.0, 32),
    "openelm": ModelConfig("openelm", 2, 64, 4, 128, 0.0, 32),
}
VOCABULARY = 301  # odd, so that the output matrix is filled up
CONFIG = RunConfig(
    "X1", DataConfig("random", "", 0), SHAPES["vanilla"], batch_size=8, accumulate=1, steps=12, lr=1e-3, warmup_steps=2,
    schedule="linear", weight_decay=0.1, adam=(0.9, 0.95, 1e-8), precision="float32", eval_every=6, seed=0,
)  # fmt: skip
# Relative. float32: sums in another order, through ten steps of Adam, which divides by gradients near 0. bfloat16: one
# rounding is 2^-8, and the CPU rounds elsewhere than the GPU.
TOLERANCE = {"float32": 1e-3, "bfloat16": 2e-2}


def config(shape="vanilla", **changes):
    return replace(CONFIG, model=SHAPES[shape], **changes)


def random_batches(number=10, seed=1):
    g, found = torch.Generator().manual_seed(seed), []
    for _ in range(number):
        ids = torch.randint(0, VOCABULARY, (8, 33), generator=g)
        targets = ids[:, 1:].clone()
        targets[torch.arange(8), torch.randint(20, 32, (8,), generator=g)] = IGNORED
        found.append((ids[:, :-1].contiguous(), targets))
    return found


def taker(of, device):
    torch.manual_seed(0)
    model = models.build(of.model, VOCABULARY).to(device)
    return model, step.Step(model, of, device)


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES)
def test_loss_gradients_and_ten_steps_are_those_of_the_cpu(shape, precision):
    of, losses, gradients = config(shape, precision=precision, accumulate=2), {}, {}
    for device in ("cpu", "cuda"):
        model, take = taker(of, device)
        losses[device] = [take(random_batches(1)[0]).item()]
        gradients[device] = torch.cat([p.grad.flatten().double().cpu() for p in model.parameters()])
        losses[device] += [take(batch).item() for batch in random_batches()[1:]]
        assert take.captured == (device == "cuda")
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=TOLERANCE[precision])
    apart = (gradients["cuda"] - gradients["cpu"]).norm() / gradients["cpu"].norm()
    assert apart < {"float32": 1e-5, "bfloat16": 3e-2}[precision]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_captured_step_is_the_step(shape, monkeypatch):
    # The gradient of a key's bias is 0 but for rounding, by which Adam with its usual eps would divide: on a CPU, compiled
    # and plain steps then part by 5e-5 in ten steps, and with this one by less than 1e-5.
    of, ends = config(shape, adam=(0.9, 0.95, 1e-3)), {}
    for warm_up in (3, 10**6):
        monkeypatch.setattr(step, "WARM_UP", warm_up)
        model, take = taker(of, "cuda")
        for number, batch in enumerate(random_batches(), 1):
            take.set_rate(1e-3 / number)
            value = take(batch)
        assert take.captured == (warm_up == 3)
        ends[warm_up] = [value.item(), *(p.detach().cpu() for p in model.parameters())]
    assert ends[3][0] == pytest.approx(ends[10**6][0], rel=1e-5)
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(ends[3][1:], ends[10**6][1:], strict=True))


def test_a_replayed_step_has_the_present_rate_and_new_dropout():
    of = replace(config(), weight_decay=0.0, model=replace(SHAPES["vanilla"], dropout=0.5))
    model, take = taker(of, "cuda")
    batch = random_batches(1)[0]
    for _ in range(4):
        take(batch)
    assert take.captured
    take.set_rate(0.0)
    before = [p.detach().clone() for p in model.parameters()]
    seen = {take(batch).item() for _ in range(5)}
    assert len(seen) == 5, "each step draws its own dropout"
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    take.set_rate(1e-2)
    take(batch)
    assert not any(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("precision", TOLERANCE)
def test_no_step_waits_for_the_gpu_and_another_shape_is_refused(precision):
    of = config("gpt2", precision=precision)
    _, take = taker(of, "cuda")
    found = [tuple(part.pin_memory() for part in batch) for batch in random_batches()]
    take(found[0])  # compiles, which waits
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in found[1:3]:
            take(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    take(found[3])  # captures, which waits
    torch.cuda.set_sync_debug_mode("error")
    try:
        for number, batch in enumerate(found[4:]):
            take.set_rate(1e-3 / (1 + number))
            take(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    with pytest.raises(ValueError, match=r"a batch has shape \(8, 31\); expected \(8, 32\)"):
        take(tuple(part[:, :31] for part in found[0]))


@pytest.mark.parametrize("vocabulary", [VOCABULARY, 50257])
@pytest.mark.parametrize("precision", TOLERANCE)
def test_the_loss_in_pieces_is_the_plain_loss(precision, vocabulary, monkeypatch):
    g = torch.Generator().manual_seed(0)
    head = torch.nn.Linear(64, vocabulary)
    hidden, targets = torch.randn(200, 64, generator=g), torch.randint(0, vocabulary, (200,), generator=g)
    targets[::7] = IGNORED
    exact_in = [hidden.double().requires_grad_(), head.weight.detach().double().requires_grad_()]
    logits = F.linear(exact_in[0], exact_in[1], head.bias.detach().double())
    exact = F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")
    exact.backward()
    head, hidden, targets = head.cuda(), hidden.cuda().requires_grad_(), targets.cuda()
    for piece in (2**27, 40 * vocabulary * 4 // loss.ON_GPU):
        monkeypatch.setattr(loss, "PIECE", piece)
        hidden.grad = head.weight.grad = None
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bfloat16"):
            value = loss.linear_cross_entropy(hidden, head, targets)
            terms = loss.token_losses(hidden, head, targets)
        value.backward()
        assert value.item() == pytest.approx(exact.item(), rel={"float32": 1e-6, "bfloat16": 1e-3}[precision])
        assert terms.sum().item() == pytest.approx(value.item(), rel=1e-5)
        for found, right in ((hidden.grad, exact_in[0].grad), (head.weight.grad, exact_in[1].grad)):
            apart = (found.double().cpu() - right).norm() / right.norm()
            assert apart < {"float32": 1e-5, "bfloat16": 1e-2}[precision]


def windows():
    tokens = (np.arange(4000) ** 2 + np.arange(4000) // 7) % VOCABULARY
    return batches.Windows(tokens, tokens[::-1].copy(), VOCABULARY, context=32, evaluated=64)


def metrics(folder):
    lines = (folder / "metrics.jsonl").read_text(encoding="utf8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in (*train.CLOCK, "collapse")} for line in lines]


def test_a_run_is_that_of_the_cpu_and_goes_on_after_an_interruption(tmp_path, monkeypatch):
    of, data, real = config("gpt2"), windows(), train._step
    for device in ("cpu", "cuda"):
        train.train(of, data, tmp_path / device, device)
    assert len(metrics(tmp_path / "cuda")) == 3
    for one, other in zip(metrics(tmp_path / "cpu"), metrics(tmp_path / "cuda"), strict=True):
        assert one == pytest.approx(other, rel=1e-3)

    def dying(run, batch):
        if run.step == 9:
            raise KeyboardInterrupt
        return real(run, batch)

    monkeypatch.setattr(train, "_step", dying)
    with pytest.raises(KeyboardInterrupt):
        train.train(of, data, tmp_path / "cut", "cuda")
    monkeypatch.setattr(train, "_step", real)
    train.train(of, data, tmp_path / "cut", "cuda")
    for one, other in zip(metrics(tmp_path / "cut"), metrics(tmp_path / "cuda"), strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_a_loss_that_is_nan_stops_the_run(tmp_path):
    with pytest.raises(train.Diverged, match=r"at step \d+; expected"):
        train.train(config("gpt2", lr=1e30, warmup_steps=0, steps=40), windows(), tmp_path / "bad", "cuda")


def test_one_process_with_ddp_has_the_same_gradients(tmp_path):
    import torch.distributed as dist

    torch.manual_seed(0)
    model = models.build(SHAPES["gpt2"], VOCABULARY).cuda()
    x, y = (part.cuda() for part in random_batches(1)[0])
    plain = step.Loss(model, compiled=True)
    plain(x, y).backward()
    right = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    dist.init_process_group("nccl", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        torch.nn.parallel.DistributedDataParallel(plain)(x, y).backward()
    finally:
        dist.destroy_process_group()
    assert all(torch.allclose(p.grad, r, rtol=1e-4, atol=1e-6) for p, r in zip(model.parameters(), right, strict=True))


def test_the_collapse_report_is_that_of_the_cpu():
    torch.manual_seed(0)
    model = models.build(SHAPES["vanilla"], VOCABULARY).eval()
    ids = torch.randint(0, VOCABULARY, (60, 20), generator=torch.Generator().manual_seed(2))
    reports = [collapse.collapse_report(model.to(device), ids[:40], ids[40:]) for device in ("cpu", "cuda")]
    one, other = (report.brief() for report in reports)
    for name in ("loss", "entropy", "distance", "mass", "index", "effective_patterns"):
        assert one[name] == pytest.approx(other[name], rel=1e-4, abs=1e-8), name


def test_peak_memory_of_gpt2_small(capsys):
    gc.collect()
    torch.cuda.empty_cache()
    size = replace(bench.GPU, batch=8)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    _, take = bench.ours(size, "bfloat16", "cuda")
    for _ in range(step.WARM_UP + 2):
        value = take(bench._batch(size, "cuda")).item()
    taken = torch.cuda.max_memory_allocated() - before
    with capsys.disabled():
        print(f"\nGPT-2 small, 8 x 1024 tokens: {taken / 1e9:.2f} GB at most")
    assert math.isfinite(value)
    assert taken > 4 * 4 * 124_439_808, "weights, gradients and two moments of Adam"
