"""Verdicts follow from checks, and a changed one is caught.   ./run_tests.sh tests/test_claims.py"""

import json
import math
import os
from itertools import product

import mistune
import pytest

from memlm import claims, paths
from memlm.claims import Check, above, attacked, below, certified, measured, proved

ENTRY = """[[claim]]
id = "Q1"
title = "q"
version = "2"
place = "here"
statement = "Every x is y."
scale = "every x"
limits = "nothing"
because = "x is y"
expected = "holds"
notebook = "nb"
tests = []
"""
YES, NO, MAYBE = (Check("c", passed, "certified", "") for passed in (True, False, None))


def test_verdicts_follow_from_the_checks():
    cases = {
        "holds": [((YES, YES), (), ())],
        "holds, corrected": [((NO,), (YES,), ()), ((NO, YES), (YES, YES), (YES,))],
        "holds under an added assumption": [((NO,), (), (YES,)), ((NO,), (NO,), (YES,))],
        "fails as printed": [((NO,), (), ()), ((YES, NO), (MAYBE,), ()), ((NO, MAYBE), (), (NO,))],
        "not decided": [((), (), ()), ((YES, MAYBE), (), ()), ((MAYBE,), (YES,), (YES,))],
    }
    assert set(cases) == set(claims.VERDICTS)
    for expected, arguments in cases.items():
        for checks in arguments:
            assert claims.verdict(*checks) == expected, checks


def test_nothing_undecided_or_false_ever_holds():
    for printed in product((YES, NO, MAYBE), repeat=3):
        if claims.verdict(printed) == "holds":
            assert printed == (YES, YES, YES)


def test_measured_needs_three_values_and_the_whole_interval():
    assert measured("m", [1.0, 1.01, 0.99], 1.0, 0.05, "why").passed is True
    assert measured("m", [1.2, 1.21, 1.19], 1.0, 0.05, "why").passed is False
    assert measured("m", [1.04, 1.05, 1.03], 1.0, 0.05, "why").passed is None  # straddles the edge
    assert measured("m", [1.0, 1.0], 1.0, 0.05, "why").passed is None  # two seeds decide nothing
    assert measured("m", [1.0, math.nan, 1.0], 1.0, 0.05, "why").passed is None
    assert "n = 3" in measured("m", [1.0, 1.01, 0.99], 1.0, 0.05, "why").detail


@pytest.mark.parametrize(
    ("values", "higher"),
    [
        ([2.0, 2.1, 1.9], True),
        ([0.5, 0.6, 0.4], False),
        ([1.0, 1.1, 0.95], None),  # the bound lies in the interval
        ([2.0, 2.1], None),  # two seeds decide nothing
        ([2.0, math.nan, 2.1], None),
        ([1.0, 1.0, 1.0], None),  # on the bound
    ],
)
def test_above_and_below_are_opposites_and_undecided_together(values, higher):
    assert above("m", values, 1.0, "why").passed is higher
    assert below("m", values, 1.0, "why").passed is (None if higher is None else not higher)


def test_interval_of_three_values_by_hand():
    mean, half = claims.interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half == pytest.approx(4.302652729911275 / math.sqrt(3), rel=1e-9)  # t(0.975, 2) from the tables


def test_an_attack_that_found_nothing_passes_only_if_it_tried():
    assert attacked("a", 0.0, 10).passed is True
    assert attacked("a", -1e-300, 10).passed is False
    assert attacked("a", 1.0, 0).passed is None
    assert attacked("a", math.nan, 10).passed is None
    assert proved("p", None, "every n").passed is None and certified("c", None, "").passed is None


def test_overlapping_balls_settle_nothing():
    from flint import arb

    wide, one = arb(1, 0.5), arb(1)
    assert claims.settled(wide > one, wide <= one) is None
    assert claims.settled(arb(2) > one, arb(2) <= one) is True
    assert claims.settled(arb(0) > one, arb(0) <= one) is False


def test_balls_agree_only_where_they_must_and_several_outcomes_are_one():
    from flint import arb

    assert claims.agree(arb(1), arb(1), 1e-30) is True and claims.agree(arb(1), arb(2), 1e-30) is False
    assert claims.agree(arb(1, 0.5), arb(1), 1e-30) is None  # they overlap, and may hold different numbers
    assert (
        claims.every([True, True]) is True
        and claims.every([True, None, False]) is False
        and claims.every([True, None]) is None
    )
    assert [claims.contrary(outcome) for outcome in (True, False, None)] == [False, True, None]
    with pytest.raises(ValueError, match="outcomes is empty"):
        claims.every([])


def test_evidence_has_four_kinds():
    with pytest.raises(ValueError, match="evidence is 'guessed'; expected one of proved, certified, measured, attacked"):
        Check("c", True, "guessed", "")


def test_a_proof_says_for_what_it_was_carried_out_and_nothing_else_does():
    assert proved("p", True, "n = 1, every r", "by parts").generality == "n = 1, every r"
    for vague in ("", "in general", "d", "all n"):
        with pytest.raises(ValueError, match=f"p: generality is '{vague}'; expected of a proof"):
            proved("p", True, vague)
    with pytest.raises(ValueError, match="c: generality is 'every n'"):
        Check("c", True, "certified", "", "every n")


def test_an_attack_tells_states_from_sets_of_patterns():
    assert attacked("a", 1.0, 1_000_000, sets=487).detail == "least slack 1 in 1,000,000 states of 487 sets of patterns"


def test_a_changed_verdict_and_an_unknown_id_are_errors(tmp_path, capsys):
    assert claims.record("CV", profile="smoke", printed=[NO], folder=tmp_path) == "fails as printed"
    assert "FAILS AS PRINTED" in capsys.readouterr().out
    with pytest.raises(claims.ChangedVerdict, match="claim CV is now 'holds'; the ledger expects 'fails as printed'"):
        claims.record("CV", profile="smoke", printed=[YES], folder=tmp_path)
    with pytest.raises(KeyError, match="'P99' is not in the ledger"):
        claims.record("P99", profile="smoke", printed=[YES], folder=tmp_path)


def test_a_measurement_in_too_small_a_profile_decides_nothing(tmp_path):
    far = [measured("m", [3.0, 3.1, 2.9], 1.0, 0.05, "why")]
    assert claims.record("X2", profile="smoke", printed=far, folder=tmp_path) == "not decided"
    with pytest.raises(claims.ChangedVerdict):
        claims.record("X2", profile="cpu", printed=far, folder=tmp_path)
    with pytest.raises(claims.ChangedVerdict):  # but a false certificate is false at any size
        claims.record("X2", profile="smoke", printed=[certified("c", False, "")], folder=tmp_path)


def test_one_seed_leaves_a_claim_open_where_runs_are_long_and_is_an_error_where_it_has_to_be_decided(tmp_path):
    one = [measured("m", [1.0], 1.0, 0.05, "why")]
    for profile in ("gpu", "paper"):
        assert claims.record("X2", profile=profile, printed=one, folder=tmp_path) == "not decided"
        with pytest.raises(claims.ChangedVerdict):
            claims.record("X2", profile=profile, printed=[NO], folder=tmp_path)
    with pytest.raises(claims.ChangedVerdict):
        claims.record("X2", profile="cpu", printed=one, folder=tmp_path)


def test_every_claim_has_its_notebook_and_its_tests():
    assert len(claims.ledger()) >= 6
    assert claims.missing() == []


def test_every_statement_was_seen_beside_its_checks():
    assert claims.unseen() == {}, "python -m memlm ledger shows them, and with --renew writes down that they fit each other"


@pytest.fixture
def one_claim(tmp_path, monkeypatch):
    """A ledger of one claim beside a notebook that records it, agreed to; and how to change either."""
    (tmp_path / "claims.toml").write_text(ENTRY, encoding="utf8")
    monkeypatch.setattr(claims, "AGREED", tmp_path / "claims.agreed")
    monkeypatch.setattr(claims, "ledger", lambda: claims._ledger(tmp_path / "claims.toml", 0))

    def checks(source):
        cell = {"cell_type": "code", "source": [f'claims.record("Q1", {source})']}
        other = {"cell_type": "code", "source": ["x = 1"]}
        (tmp_path / "nb.ipynb").write_text(json.dumps({"cells": [cell, other]}), encoding="utf8")

    def statement(text):
        claims._ledger.cache_clear()
        (tmp_path / "claims.toml").write_text(ENTRY.replace("Every x is y.", text), encoding="utf8")

    present = claims.present
    monkeypatch.setattr(claims, "present", lambda id: present(id, tmp_path))
    checks("printed=[a]")
    claims.agree_to_statements()
    yield statement, checks
    claims._ledger.cache_clear()


def test_a_statement_that_changes_without_its_checks_is_caught(one_claim):
    statement, checks = one_claim
    assert claims.unseen() == {}
    statement("Every x is z.")
    assert claims.unseen() == {"Q1": (True, False)}
    claims.agree_to_statements()
    checks("printed=[b]")
    assert claims.unseen() == {"Q1": (False, True)}  # or the next change of the statement would pass for one of both
    statement("Some x is y.")
    assert claims.unseen() == {"Q1": (True, True)}


def test_the_command_shows_both_and_renews(one_claim, monkeypatch, capsys):
    from memlm.__main__ import main

    one_claim[0]("Every x is z.")
    main(["ledger"])
    shown = capsys.readouterr().out
    assert "Q1: statement changed" in shown and "Every x is z." in shown and "printed=[a]" in shown
    assert claims.unseen()
    main(["ledger", "--renew"])
    assert "1 statements with their checks are written down as seen" in capsys.readouterr().out and not claims.unseen()


@pytest.mark.parametrize(
    ("needs", "message"),
    [(["Q9"], "claim 'Q1' needs 'Q9'; expected ids"), (["Q1"], "claims need each other: Q1 <- Q1; expected grounds")],
)
def test_a_claim_rests_on_others_and_not_on_itself(tmp_path, needs, message):
    (tmp_path / "claims.toml").write_text(ENTRY + f"needs = {json.dumps(needs)}\n", encoding="utf8")
    with pytest.raises(ValueError, match=message):
        claims.ledger(tmp_path / "claims.toml")


def test_a_claim_without_notebook_or_test_is_caught():
    from dataclasses import replace

    claim = claims.ledger()["CV"]
    planted = {
        "no notebook": replace(claim, notebook="42_nowhere"),
        "not recorded there": replace(claim, id="P42"),
        "no test": replace(claim, tests=()),
        "a theorem that is gone": replace(claim, coq=("CV_nothing",)),
        "a test that is gone": replace(claim, tests=("tests/test_energy.py::test_nothing",)),
    }
    for name, entry in planted.items():
        assert len(claims.missing({entry.id: entry})) == 1, name


BAD = {
    "unknown verdict": ('expected = "perhaps"', "expected verdict, profile or id is unknown"),
    "unknown field": ('expected = "holds"\ncolour = "red"', "has fields"),
    "missing field": ("", "has fields"),
}


@pytest.mark.parametrize(("line", "message"), BAD.values(), ids=BAD)
def test_a_malformed_ledger_is_refused(tmp_path, line, message):
    path = tmp_path / "claims.toml"
    path.write_text(ENTRY.replace('expected = "holds"\n', line + "\n"), encoding="utf8")
    with pytest.raises(ValueError, match=message):
        claims.ledger(path)


@pytest.mark.parametrize("content", ["", "claim = 3", "claim = [3]", "[[claim]", "\ufeff[[claim]]"])
def test_a_ledger_that_is_none_is_named(tmp_path, content):
    (tmp_path / "claims.toml").write_text(content, encoding="utf8")
    with pytest.raises(ValueError, match=r"claims.toml (is no TOML|has no \[\[claim)"):
        claims.ledger(tmp_path / "claims.toml")


def test_the_table_shows_every_claim():
    entries = {"CV": {"verdict": "holds", "checks": {"printed": [{"evidence": "proved"}]}}}
    table = claims.table(entries)
    assert all(f"| {id} |" in table for id in claims.ledger())
    assert "not yet recorded" in table and f"**holds** | {claims.ledger()['CV'].scale} | proved" in table


def read_back(table):
    """Cells of a Markdown table as a reader of Markdown sees them: the head and the rows."""
    (parsed,) = mistune.create_markdown(renderer="ast", plugins=["table"])(table)
    assert parsed["type"] == "table"
    head, body = parsed["children"]

    def text(node):
        return node.get("raw", "") + "".join(map(text, node.get("children", ())))

    return [text(cell) for cell in head["children"]], [[text(cell) for cell in row["children"]] for row in body["children"]]


def test_every_cell_of_a_table_is_read_back_whatever_it_holds():
    rows = [("a|b", "|x|^2", "", "c"), (1, "two\nlines", "\\|", "||"), ("**bold**", "ends in |", "$|y|$", "d")]
    head, found = read_back(claims.markdown(("one", "t|wo", "three", "four"), rows))
    assert head == ["one", "t|wo", "three", "four"] and [len(row) for row in found] == [4, 4, 4]
    assert found[:2] == [["a|b", "|x|^2", "", "c"], ["1", "two lines", "\\|", "||"]]
    assert found[2] == ["bold", "ends in |", "$|y|$", "d"]


def test_the_table_of_verdicts_is_read_back_with_every_title_in_its_column():
    entries = claims.recorded()
    head, rows = read_back(claims.table(entries))
    assert head == ["claim", "what it says", "place", "verdict", "at what scale", "evidence"]
    by_id = {row[0]: row for row in rows}
    assert by_id.keys() == claims.ledger().keys()
    for claim in claims.ledger().values():
        assert by_id[claim.id][1:5] == [claim.title, claim.place, entries[claim.id]["verdict"], claim.scale]
    assert any("|" in claim.title for claim in claims.ledger().values())


@pytest.fixture
def committed(tmp_path, monkeypatch):
    """The file of verdicts that are committed with a project, and what is in it."""
    monkeypatch.setattr(claims, "RECORDS", tmp_path)
    claims.record("CV", profile="cpu", printed=[NO], folder=tmp_path / "v")
    entries = {"CV": paths.read_sealed(tmp_path / "v" / "CV.json", {}, "")}
    claims.publish(entries)
    return tmp_path / "verdicts.json", entries


def test_committed_verdicts_are_read_back_and_name_their_profile(committed):
    _, entries = committed
    assert claims.recorded() == entries and claims.recorded_profile() == "cpu"


@pytest.mark.parametrize("old, new", [('"fails as printed"', '"holds"'), ('"passed": false', '"passed": true')])
def test_a_verdict_changed_by_hand_is_not_printed_as_true(committed, old, new, capsys):
    from memlm.__main__ import main

    file, _ = committed
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(SystemExit, match=r"memlm: .*verdicts.json does not have the hash in its seal.*git checkout"):
        main(["verdicts"])
    paths.write_sealed(file, {key: value for key, value in json.loads(file.read_text()).items() if key != "seal"})
    with pytest.raises(SystemExit, match=r"memlm: .*verdicts.json calls CV .*; its checks imply"):
        main(["verdicts"])
    assert "holds" not in capsys.readouterr().out


def test_a_verdict_of_another_seed_profile_or_execution_is_not_shown(tmp_path, monkeypatch):
    """Verdicts as the runner leaves them, beside the stamp of the notebook that recorded them."""
    monkeypatch.setattr(claims, "REPORT", tmp_path)
    file = tmp_path / "smoke" / "verdicts" / "CV.json"

    def left(profile="smoke", seed=0):
        claims.record("CV", profile=profile, printed=[NO], folder=file.parent)
        outputs = {"verdicts/CV.json": paths.sha256(file)}
        paths.write_sealed(tmp_path / "smoke" / "02_energies.json", {"seed": seed, "outputs": outputs})

    def refused(made, seed=0):
        advice = f"execute 02_energies in profile smoke with seed {seed}"
        with pytest.raises(paths.Damaged, match=f"^the verdict on claim CV in .*CV.json is {made}; {advice}$"):
            claims.recorded("smoke", seed)

    left()
    assert claims.recorded("smoke")["CV"]["verdict"] == "fails as printed"
    refused("of seed 0", seed=5)
    left(seed=5)
    assert "CV" in claims.recorded("smoke", 5)
    refused("of seed 5")
    left(profile="cpu")
    refused("of profile cpu")
    left()
    claims.record("CV", profile="smoke", printed=[NO, YES], folder=file.parent)  # by an execution that came to no end
    refused("not what 02_energies left when it last came to its end")
    left()
    (tmp_path / "smoke" / "02_energies.json").unlink()
    refused("not what 02_energies left when it last came to its end")


@pytest.mark.parametrize("content", ["", "null", "[]", "1", "{", '{"CV": null}', '{"CV": {"id": "CV"}}'])
def test_damaged_verdicts_are_one_sentence(committed, content):
    file, _ = committed
    file.write_text(content)
    with pytest.raises(paths.Damaged, match=r"verdicts.json .*; git checkout -- "):
        claims.recorded()


def test_verdicts_other_than_the_expected_ones_are_named(committed):
    _, entries = committed
    assert claims.changed(entries) == []
    other = {"CV": {**entries["CV"], "verdict": "holds"}, "P1": {**entries["CV"], "id": "P1", "verdict": "not decided"}}
    assert claims.changed(other) == [
        "claim CV is now 'holds'; the ledger expects 'fails as printed'",
        "claim P1 is now 'not decided'; the ledger expects 'holds'",
    ]
    open_ = {"X2": {"id": "X2", "verdict": "not decided", "profile": "smoke"}}
    assert claims.changed(open_) == [] and claims.changed({"X2": {**open_["X2"], "profile": "cpu"}})


def test_an_unknown_profile_is_named_before_anything_is_written(tmp_path):
    for call in (
        lambda: claims.record("CV", profile="foo", printed=[NO], folder=tmp_path),
        lambda: claims.recorded("foo"),
    ):
        with pytest.raises(ValueError, match="profile is 'foo'; expected one of smoke, cpu, gpu, paper"):
            call()
    assert not list(tmp_path.iterdir())


def test_by_hand_in_a_read_only_clone_a_verdict_goes_to_the_temporary_files(tmp_path, monkeypatch, capsys):
    clone, temporary = tmp_path / "clone", tmp_path / "t"
    clone.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(paths, "REPORT", clone / "report")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.delenv(paths.STAGE, raising=False)
    assert paths.stage("smoke") == clone / "report" / "by-hand" / "smoke"
    writable = os.access  # root may write into whatever chmod has closed
    monkeypatch.setattr(os, "access", lambda path, mode: not clone.samefile(path) and writable(path, mode))
    claims.record("CV", profile="smoke", printed=[NO])
    (scratch,) = temporary.iterdir()
    assert (scratch / "smoke" / "verdicts" / "CV.json").is_file() and not list(clone.iterdir())
    assert f"(run by hand: {scratch}/smoke/)" in capsys.readouterr().out


@pytest.mark.parametrize("slack", [math.inf, math.nan, float("inf")])
def test_a_search_that_computed_nothing_passes_nothing(slack):
    assert attacked("a", slack, 10**6).passed is None
    assert attacked("a", 1.0, math.nan).passed is None
    assert attacked("a", -math.inf, 10).passed is False


def test_infinite_numbers_decide_nothing_and_infinite_bands_are_refused():
    for values in ([math.inf, 1.0, 1.0], [-math.inf, math.inf, 1.0], [1.0, math.nan, 1.0], [1e308, -1e308, 1e308]):
        assert measured("m", values, 1.0, 0.05, "why").passed is None
        assert above("m", values, 1.0, "why").passed is None and below("m", values, 1.0, "why").passed is None
    planted = {
        "tolerance is inf": lambda: measured("m", [1.0, 1.0, 1.0], 9.0, math.inf, "why"),
        "tolerance is nan": lambda: measured("m", [1.0, 1.0, 1.0], 9.0, math.nan, "why"),
        "tolerance is -1.0": lambda: measured("m", [1.0, 1.0, 1.0], 9.0, -1, "why"),
        "target is nan": lambda: measured("m", [1.0, 1.0, 1.0], math.nan, 1, "why"),
        "bound is -inf": lambda: above("m", [1.0, 1.0, 1.0], -math.inf, "why"),
        "bound is inf": lambda: below("m", [1.0, 1.0, 1.0], math.inf, "why"),
        "bound is nan": lambda: below("m", [1.0, 1.0, 1.0], math.nan, "why"),
        "values is empty": lambda: above("m", [], 1.0, "why"),
    }
    for message, call in planted.items():
        with pytest.raises(ValueError, match=f"{message}; expected"):
            call()


def test_an_interval_at_the_ends_of_the_floats_and_of_one_value():
    assert claims.interval([1e308, 1e308]) == (1e308, 0.0)
    assert claims.interval([5.0]) == (5.0, pytest.approx(math.nan, nan_ok=True))
    for level in (95, 0, 1, -0.5, 1.5, math.nan, "0.95", None):
        with pytest.raises(ValueError, match=r"level is .*; expected a share between 0 and 1"):
            claims.interval([1.0, 2.0, 3.0], level=level)


def test_numbers_balls_and_findings_are_no_truth_values():
    import numpy as np
    import sympy as sp
    import torch
    from flint import arb

    for true in (True, np.True_, torch.tensor(True), sp.true):
        assert certified("c", true, "").passed is True and proved("p", true, "every n").passed is True
    for false in (False, np.False_, torch.tensor(False), sp.false):
        assert certified("c", false, "").passed is False
    planted = (
        1,
        0.0,
        math.nan,
        1e-17,
        "True",
        [True],
        arb(1),
        torch.tensor(0.3),
        np.array([True, True]),
        sp.Symbol("x") > 0,
    )
    for wrong in planted:
        for make in (certified, proved):
            with pytest.raises(ValueError, match=r"c: passed is .*; expected True, False or None"):
                make("c", wrong, "every n")


def test_only_comparisons_of_balls_settle():
    import numpy as np
    import torch

    third = np.float64(0.3)
    for true, false in (
        (np.float64(0.1) + np.float64(0.2) > third, False),
        (False, torch.tensor(0.3) < 0.2),
        (0.1 + 0.2 - 0.3, False),
        (None, True),
        (True, True),
    ):
        with pytest.raises(ValueError, match="expected those of balls, bools of which one is False"):
            claims.settled(true, false)
