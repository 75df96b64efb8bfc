"""Figures: the same bytes each time, and a stale one is caught.   ./run_tests.sh tests/test_figures.py"""

import json
import shutil

import pytest

from memlm import figures, paths


def draw(folder, height=1.0):
    import matplotlib.pyplot as plt

    figures.style()
    fig, ax = plt.subplots(figsize=(2, 1))
    ax.fill_between([0, 1], [0, height], alpha=0.3)
    ax.plot([0, 1], [0, height], label="$x_1$")
    ax.legend()
    figures.save(fig, "line", notebook="02_energies", profile="cpu", alt="A line.", records=["b", "a"], into=folder)
    plt.close(fig)
    return folder


def test_the_same_picture_has_the_same_bytes(tmp_path):
    one, two, other = draw(tmp_path / "1"), draw(tmp_path / "2"), draw(tmp_path / "3", height=2.0)
    for name in ("line.png", "line.svg", "manifest.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
        assert (one / name).read_bytes() != (other / name).read_bytes(), name
    entry = json.loads((one / "manifest.json").read_text())["line"]
    assert entry["records"] == ["a", "b"] and entry["alt"] == "A line."


def test_a_figure_needs_a_sentence_for_those_who_cannot_see_it(tmp_path):
    with pytest.raises(ValueError, match="figure x has no alt text"):
        figures.save(None, "x", notebook="02_energies", profile="cpu", alt=" ", into=tmp_path)


SETTINGS = {
    "savefig.bbox": "tight",
    "axes.unicode_minus": False,
    "mathtext.fontset": "cm",
    "axes.linewidth": 2,
    "savefig.transparent": True,
    "figure.facecolor": "red",
    "lines.marker": "o",
    "svg.fonttype": "none",
    "savefig.pad_inches": 1.0,
    "path.simplify": False,
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_users_settings_of_matplotlib_do_not_change_the_bytes(tmp_path, setting):
    import matplotlib

    plain = draw(tmp_path / "1")
    with matplotlib.rc_context({setting: SETTINGS[setting]}):
        own = draw(tmp_path / "2")
    for name in ("line.png", "line.svg", "manifest.json"):
        assert (plain / name).read_bytes() == (own / name).read_bytes(), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"notebook": "mine"}, "notebook is 'mine'; expected one of 00_start_here, 01"),
        ({"notebook": "../mine"}, "notebook is '../mine'; expected one of"),
        ({"profile": "foo"}, "profile is 'foo'; expected one of smoke, cpu, gpu, paper"),
        ({"name": "../line"}, "figure is '../line'; expected a plain name"),
    ],
)
def test_what_a_figure_cannot_be_is_said_before_anything_is_written(tmp_path, change, message):
    asked = {"name": "x", "notebook": "02_energies", "profile": "cpu", "alt": "A line.", "into": tmp_path / "f"} | change
    with pytest.raises(ValueError, match=message):
        figures.save(None, asked.pop("name"), **asked)
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"1", b"{}", b"\0\0", b'{"line": {}}'])
def test_a_damaged_manifest_is_a_sentence_that_names_it_and_is_begun_anew_where_it_is_only_staged(tmp_path, content):
    folder = draw(tmp_path / "f")
    whole = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json").write_bytes(content)
    (problem,) = figures.stale(folder)
    assert problem.startswith(f"{folder / 'manifest.json'} ") and problem.endswith("draw these figures again")
    assert (draw(folder) / "manifest.json").read_bytes() == whole


def test_the_committed_manifest_is_never_begun_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "FIGURES", tmp_path / "f")
    draw(tmp_path / "f")
    (tmp_path / "f" / "manifest.json").write_bytes(b"")
    with pytest.raises(paths.Damaged, match="git checkout -- figures"):
        draw(tmp_path / "f")


def test_a_committed_manifest_that_is_lost_is_not_begun_anew_beside_its_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "FIGURES", draw(tmp_path / "f"))
    (tmp_path / "f" / "manifest.json").unlink()
    with pytest.raises(paths.Damaged, match=r"manifest.json is missing beside its figures; git checkout -- figures"):
        figures.to_adopt(draw(tmp_path / "g"), "02_energies")


def test_dropping_a_figure_leaves_a_file_that_is_not_the_one_that_was_drawn(tmp_path):
    folder = draw(tmp_path / "f")
    (folder / "line.svg").write_text("edited by hand")
    figures.drop(["line"], folder)
    assert [file.name for file in sorted(folder.glob("line*"))] == ["line.svg"] and figures.manifest(folder) == {}


def test_the_committed_figures_are_those_of_the_present_code():
    assert len(json.loads((paths.FIGURES / "manifest.json").read_text())) >= 3
    assert figures.stale() == []


PLANTED = {
    "changed alt text": (
        lambda f: (f / "manifest.json").write_text((f / "manifest.json").read_text().replace("A line", "A cat")),
        "manifest.json does not have the hash in its seal",
    ),
    "changed picture": (lambda f: (f / "line.png").write_bytes(b"x"), "line.png is not the file"),
    "lost picture": (lambda f: (f / "line.svg").unlink(), "line.svg is in the manifest but not in"),
    "unknown picture": (lambda f: shutil.copy(f / "line.png", f / "new.png"), "new is in .* but not in the manifest"),
    "changed code": (lambda f: edit(f, sources="0" * 16), "line is older than the code of 02_energies"),
    "lost notebook": (lambda f: edit(f, notebook="42_gone"), "line was drawn by 42_gone, which is gone"),
}


def edit(folder, **fields):
    entries = figures.manifest(folder)
    entries["line"] |= fields
    paths.write_sealed(folder / "manifest.json", entries)


@pytest.mark.parametrize(("damage", "message"), PLANTED.values(), ids=PLANTED)
def test_a_stale_figure_is_caught(tmp_path, damage, message):
    folder = draw(tmp_path / "f")
    assert figures.stale(folder) == []
    damage(folder)
    (found,) = figures.stale(folder)
    assert __import__("re").search(message, found)


def test_a_source_hash_changes_with_code_and_not_with_comments(tmp_path):
    code = "from memlm import energy\nx = 1\n"
    assert paths.source_hash(code=code) == paths.source_hash(code='"""Doc."""\nfrom memlm import energy  # why\n\nx = 1\n')
    others = [code.replace("1", "2"), "x = 1\n", code.replace("energy", "grammar")]
    assert len({paths.source_hash(code=c) for c in [code, *others]}) == 4
    assert paths.source_hash("train") != paths.source_hash("train", without=("grammar",))
