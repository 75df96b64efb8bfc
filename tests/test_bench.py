"""The benchmark measures equal work, counts it as by hand, and can turn out badly.   ./run_tests.sh tests/test_bench.py"""

import json
import time

import pytest
import torch

from memlm import __main__, bench, models


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_operations_per_token_are_those_counted_by_hand():
    with torch.device("meta"):
        gpt2 = models.gpt2(50257, 12, 768, 12, 1024, 0.0)
        vanilla = models.VanillaTransformer(69, 3, 64, 4, 48, 0.0)
        openelm = models.OpenELM(131, 40, (2, 4), (1, 2), (1.0, 1.0), 24, head_size=16)
    layer = 768 * 3 * 768 + 768 * 768 + 2 * 768 * 4 * 768  # queries, keys, values; output; feed-forward
    assert bench.flops_per_token(gpt2, 1024) == 6 * (12 * layer + 768 * 50257) + 12 * 12 * 768 * 1024 == 854_438_400
    layer = 4 * 64 * 64 + 2 * 64 * 48
    assert bench.flops_per_token(vanilla, 20) == 6 * (3 * layer + 64 * 69) + 12 * 3 * 64 * 20  # the table does not multiply
    heads = 40 * 16 * (2 + 2 * 1) + 16 * 2 * 40 + 40 * 16 * (4 + 2 * 2) + 16 * 4 * 40
    assert bench.flops_per_token(openelm, 24) == 6 * (heads + 2 * 3 * 40 * 40 + 131 * 40) + 12 * (2 + 4) * 16 * 24


def test_the_peak_is_no_less_than_a_product_attains_here():
    a = torch.randn(512, 512)
    begun = time.perf_counter()
    a @ a
    assert bench.matmul_peak() >= 0.5 * 2 * 512**3 / (time.perf_counter() - begun)  # half, for a clock that changes
    assert bench.matmul_peak() == bench.matmul_peak("cpu", "float32")


def test_both_loops_have_the_same_weights_and_go_the_same_way():
    batch = bench._batch(bench.SMALL, "cpu")
    (one, ours), (two, plain) = (loop(bench.SMALL, "float32", "cpu") for loop in bench.LOOPS.values())
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), two.parameters(), strict=True))
    losses = [(ours(batch).item(), plain(batch).item()) for _ in range(4)]
    assert all(a == pytest.approx(b, rel=1e-4) for a, b in losses)  # Adam divides by gradients that are near 0
    assert losses[0][0] > losses[-1][0] + 0.1, "they learn"


@pytest.mark.parametrize("precision", bench.AGREE)
def test_the_comparison_refuses_a_loss_that_differs(monkeypatch, precision):
    def other(change):
        def loop(*arguments):
            model, step = bench.plain(*arguments)
            return model, lambda batch: change * step(batch)

        return {"ours": loop, "plain": bench.plain}

    tolerance = bench.AGREE[precision]
    for change in (1 + 3 * tolerance, 1 - 3 * tolerance, float("nan")):
        monkeypatch.setattr(bench, "LOOPS", other(change))
        with pytest.raises(RuntimeError, match=rf"loss in {precision} is .*; expected 8\.\d+ within {tolerance:g}"):
            bench.compare(bench.SMALL, [precision], "cpu")


def test_a_slower_loop_has_a_ratio_below_one(monkeypatch):
    def slower(*arguments):
        model, step = bench.plain(*arguments)
        return model, lambda batch: (step(batch), step(batch))[1]

    monkeypatch.setattr(bench, "LOOPS", {"ours": slower, "plain": bench.plain})
    monkeypatch.setattr(bench, "AGREE", {"float32": 1.0})  # the second step's loss is another
    found = bench.compare(bench.SMALL, ["float32"], "cpu")["float32"]
    assert found["ratio"]["least"] <= found["ratio"]["median"] < 0.8
    assert found["ours"]["share_of_peak"] < 0.8 * found["plain"]["share_of_peak"]


def test_bench_prints_a_table_and_writes_a_record(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench, "RECORD", tmp_path / "bench.json")
    monkeypatch.setattr(bench, "matmul_peak", lambda device, precision: 1e11)  # bfloat16 not faster: it is left out
    __main__.main(["bench", "--small", "--threads", "1"])
    printed, record = capsys.readouterr().out, json.loads((tmp_path / "bench-small.json").read_text())
    assert list(record["results"]) == ["float32"] and record["threads"] == 1
    result = record["results"]["float32"]
    assert 0.2 < result["ratio"]["median"] < 20
    for loop in bench.LOOPS:
        assert f"{result[loop]['tokens_per_second']:.0f}" in printed
        assert 1e8 < result[loop]["peak_memory"] < 4e9 and 0 < result[loop]["share_of_peak"] < 2
    with pytest.raises(SystemExit, match="threads is 0; expected at least 1"):
        __main__.main(["bench", "--threads", "0"])
