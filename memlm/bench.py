"""How fast training is: the step of ``train`` against a plain loop, and against the device's matrix products.

The plain loop is what one writes first: logits of the whole batch, ``F.cross_entropy``, AdamW as it comes, gradients
clipped at 1, autocast where the precision is bfloat16. Both have the same weights, batch and precision and take turns in one
process, so that what else the machine does hits both. ``python -m memlm bench`` prints the table and keeps the record.
"""

import os
import platform
import resource
import signal
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from memlm import models
from memlm.configs import DataConfig, ModelConfig, RunConfig
from memlm.paths import CACHE, write_sealed
from memlm.step import Step

RECORD = CACHE / "bench.json"
AGREE = {"float32": 1e-5, "bfloat16": 1e-2}  # relative: sums of 50257 terms in another order; one rounding of 2^-8 a logit


@dataclass(frozen=True)
class Size:
    model: ModelConfig
    vocabulary: int
    batch: int  # sequences of model.context tokens
    rounds: int  # timed steps of each loop


CPU = Size(ModelConfig("gpt2", 4, 256, 4, 1024, 0.0, 128), 50257, 16, 7)
GPU = Size(ModelConfig("gpt2", 12, 768, 12, 3072, 0.0, 1024), 50257, 32, 20)  # GPT-2 small
SMALL = Size(ModelConfig("vanilla", 2, 64, 4, 128, 0.0, 32), 5000, 8, 5)


def device_name():
    """The processor or GPU that training runs on here, in the words of its maker."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} x {names[0] if names else platform.machine()}"


def matmul_peak(device="cpu", precision="float32"):
    """FLOP/s of the device's matrix products: the best of square products of several sizes, 2 n^3 operations each, on the
    threads that torch has now. precision: float32 or bfloat16. Measured once a process, in about a second."""
    return _matmul_peak(str(device), precision, torch.get_num_threads())


@cache
def _matmul_peak(device, precision, threads):
    best, begun = 0.0, time.perf_counter()
    for size in (512, 1024) if device == "cpu" else (4096, 8192):
        a = torch.randn(size, size, device=device).to(getattr(torch, precision))
        out = torch.empty_like(a)
        for _ in range(12):
            seconds = _seconds(lambda a=a, out=out: torch.mm(a, a, out=out), device)
            best = max(best, 2 * size**3 / seconds)
            if time.perf_counter() - begun > 1:  # a slow or busy machine
                break
    return best


def _seconds(work, device):
    """Seconds until ``work()`` is done, on a GPU too."""
    wait = (lambda: None) if device == "cpu" else (lambda: torch.cuda.synchronize(device))
    wait()
    begun = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - begun


def flops_per_token(model, context):
    """Floating-point operations of training per token, by PaLM's convention:

        6 (numbers in matrices that multiply) + 12 (sum over layers of query heads * head size) * context,

    2 forward and 4 backward for each multiplication and addition; attention as if it were not causal. Embedding tables
    do not multiply unless they are the output matrix too. Biases and norms are not counted, nor is anything done twice.
    """
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)} - {id(model.head.weight)}
    matrices = sum(p.numel() for p in model.parameters() if p.dim() == 2 and id(p) not in tables)
    return 6 * matrices + 12 * model.attention_width * context


def ours(size, precision, device):
    """(model, step): step(batch) is what ``train`` does with a batch, and returns its mean loss."""
    config = RunConfig(
        "bench", DataConfig("random", "", 0), size.model, size.batch, accumulate=1, steps=1, lr=1e-3, warmup_steps=0,
        schedule="linear", weight_decay=0.01, adam=(0.9, 0.999, 1e-8), precision=precision, eval_every=1, seed=0
    )  # fmt: skip
    torch.manual_seed(0)
    model = models.build(size.model, size.vocabulary).to(device)
    return model, Step(model, config, device)


def plain(size, precision, device):
    """(model, step) of the plain loop, from the same weights as ``ours``."""
    torch.manual_seed(0)
    model = models.build(size.model, size.vocabulary).to(device)
    optimiser = torch.optim.AdamW(model.parameters())

    def step(batch):
        x, y = (part.to(device, non_blocking=True) for part in batch)
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            value = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        return value.detach()

    return model, step


LOOPS = {"ours": ours, "plain": plain}


def _batch(size, device):
    ids = torch.randint(0, size.vocabulary, (size.batch, size.model.context + 1), generator=torch.Generator().manual_seed(1))
    batch = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
    return batch if device == "cpu" else tuple(part.pin_memory() for part in batch)


def peak_memory(loop, size, precision, device, threads):
    """Bytes that three steps of a loop take at most: of this process, or of the GPU. For a process of its own."""
    torch.set_num_threads(threads)
    _, step = LOOPS[loop](size, precision, device)
    for _ in range(3):
        step(_batch(size, device))
    if device != "cpu":
        return torch.cuda.max_memory_allocated()  # without what CUDA itself takes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def compare(size, precisions, device):
    """Time both loops in turns. {precision: {loop: {tokens_per_second, share_of_peak}, ratio, loss, ...}}.

    ratio: median, least and greatest over the rounds of (seconds of plain / seconds of ours). RuntimeError where the losses
    of the first step differ by more than AGREE.
    """
    loops = {key: LOOPS[key[1]](size, key[0], device) for key in product(precisions, LOOPS)}
    batch, seconds = _batch(size, device), {key: [] for key in loops}
    losses = {key: step(batch).item() for key, (_, step) in loops.items()}
    tokens = batch[1].numel()
    flops = tokens * flops_per_token(next(iter(loops.values()))[0], size.model.context)
    for number in tqdm(range(size.rounds + 1), desc="rounds", disable=None):
        for key, (_, step) in list(loops.items())[:: 1 if number % 2 else -1]:  # neither is always the first
            seconds[key].append(_seconds(lambda step=step: step(batch), device))
    seconds = {key: times[1:] for key, times in seconds.items()}  # the first round warms up
    results = {}
    for precision in precisions:
        found = {loop: losses[precision, loop] for loop in LOOPS}
        if not abs(found["ours"] - found["plain"]) <= AGREE[precision] * abs(found["plain"]):
            raise RuntimeError(
                f"loss in {precision} is {found['ours']}; expected {found['plain']} within {AGREE[precision]:g}, as plain"
            )
        result = {"loss": found, "ratio": _ratio(seconds[precision, "plain"], seconds[precision, "ours"])}
        for loop in LOOPS:
            median = statistics.median(seconds[precision, loop])
            share = flops / median / matmul_peak(device, precision)
            result[loop] = {"tokens_per_second": tokens / median, "share_of_peak": share}
        if precision != "float32" and "float32" in precisions:
            result["ratio_to_plain_float32"] = _ratio(seconds["float32", "plain"], seconds[precision, "ours"])
        if device != "cpu":
            result["overhead"] = _overhead(lambda step=loops[precision, "ours"][1]: step(batch))
        results[precision] = result
    return results


def _ratio(slow, fast):
    ratios = sorted(a / b for a, b in zip(slow, fast, strict=True))
    return {"median": statistics.median(ratios), "least": ratios[0], "greatest": ratios[-1]}


def _overhead(step, steps=10):
    """The share of a step's time in which the GPU computes nothing: 1 - (time of kernels) / (time of steps in a row)."""
    from torch.profiler import ProfilerActivity, profile

    several = lambda: [step() for _ in range(steps)]  # noqa: E731
    seconds = _seconds(several, "cuda")
    with profile(activities=[ProfilerActivity.CUDA]) as recorded:
        _seconds(several, "cuda")
    kernels = [e for e in recorded.events() if e.device_type == torch.autograd.DeviceType.CUDA and not e.is_user_annotation]
    return 1 - sum(e.self_device_time_total for e in kernels) / 1e6 / seconds


def _in_a_process(function, *arguments):
    """function(*arguments) in a process of its own, which Ctrl-C ends without a word."""
    quiet = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_DFL)}
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn"), **quiet) as child:
            return child.submit(function, *arguments).result()
    except BrokenProcessPool:
        raise RuntimeError(f"the process of {function.__name__} was killed, perhaps for want of memory") from None


def run(threads=None, small=False, record=None):
    """Measure on this machine's GPU, or else its CPU; write to ``record`` and return the numbers."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if threads is not None:
        if not 1 <= threads <= max(os.cpu_count(), 1):
            raise ValueError(f"threads is {threads}; expected at least 1, and at most the {os.cpu_count()} of this machine")
        torch.set_num_threads(threads)
    threads, size = torch.get_num_threads(), SMALL if small else {"cpu": CPU, "cuda": GPU}[device]
    peaks = {precision: matmul_peak(device, precision) for precision in AGREE}
    low = peaks["bfloat16"] > 1.2 * peaks["float32"]  # else the processor has no bfloat16 products of its own
    precisions = ["bfloat16"] if device != "cpu" else list(AGREE) if low else ["float32"]
    # First of all: a child's ru_maxrss begins at what its parent holds.
    memory = {}
    with tqdm(total=2 * len(precisions), desc="peak memory", disable=None) as bar:
        for precision, loop in product(precisions, LOOPS):
            memory[precision, loop] = _in_a_process(peak_memory, loop, size, precision, device, threads)
            bar.update()
    results = compare(size, precisions, device)
    for (precision, loop), number in memory.items():
        results[precision][loop]["peak_memory"] = number
    found = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "device": device_name(),
        "threads": threads,
        "versions": {"python": platform.python_version(), "torch": version("torch")},
        "size": asdict(size),
        "peak_flops": peaks,
        "results": results,
    }
    write_sealed(record or (RECORD.with_name("bench-small.json") if small else RECORD), found)
    return found


def table(record):
    """A record as lines of text."""
    m, size = record["size"]["model"], record["size"]
    shape = f"{m['kind']} {m['n_layer']} x {m['d_model']}, vocabulary {size['vocabulary']}, {size['batch']} x {m['context']}"
    lines = [f"{record['device']}, {record['threads']} threads, torch {record['versions']['torch']}; {shape} tokens a step"]
    lines.append(f"{'':16}{'tokens/s':>10}{'of peak':>9}{'peak GB':>9}{'loss':>10}   tokens/s of ours to plain")
    for precision, result in record["results"].items():
        for loop in LOOPS:
            row = result[loop]
            numbers = f"{row['tokens_per_second']:10.0f}{row['share_of_peak']:9.1%}{row['peak_memory'] / 1e9:9.2f}"
            line = f"{precision + ' ' + loop:16}{numbers}{result['loss'][loop]:10.5f}"
            if loop == "ours":
                line += "   {median:.2f} ({least:.2f} to {greatest:.2f})".format(**result["ratio"])
                if "ratio_to_plain_float32" in result:
                    line += "; to plain float32 {median:.2f}".format(**result["ratio_to_plain_float32"])
            lines.append(line)
        if "overhead" in result:
            lines.append(f"{precision}: {result['overhead']:.1%} of a step's time is no kernel's")
    return "\n".join(lines)
