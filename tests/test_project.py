"""The tree keeps its own rules: pins, notebooks, README, paths.   ./run_tests.sh tests/test_project.py"""

import ast
import json
import re
import subprocess
import sys
import tomllib

import pytest

from memlm import doctor, notebooks, paths, publish

ROOT = paths.ROOT
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def tracked():
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    files = [ROOT / name for name in listed.stdout.splitlines()]
    assert len(files) > 30
    return [path for path in files if path.is_file()]


def test_every_requirement_has_one_pin_and_it_is_installed():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9._-]+==[0-9][\w.]*", line) for line in lines), "exact pins, no hashes, no local labels"
    assert len(lines) == len(doctor.pins()) > 100
    assert len(doctor.requirements()) >= 15
    assert doctor.unmet() == []
    assert not [line for line in lines if line.startswith(("nvidia-", "cuda-", "triton"))]
    assert PROJECT["tool"]["uv"]["constraint-dependencies"] == [f"torch=={doctor.pins()['torch']}"]


def test_an_unmet_pin_is_one_sentence(monkeypatch):
    monkeypatch.setattr(doctor, "pins", lambda: {**{name: "0" for name in ("torch",)}})
    assert any(re.fullmatch(r"torch is [\d.]+; expected 0", line) for line in doctor.unmet())


def test_environment_yml_takes_everything_from_the_pins():
    lines = [line.split("#")[0].rstrip() for line in (ROOT / "environment.yml").read_text().splitlines()]
    text = "\n".join(line for line in lines if line)
    conda, _, pip = text.partition("  - pip:\n")
    assert re.findall(r"^(\w+):", text, re.M) == ["name", "channels", "dependencies"]
    assert re.findall(r"^  - (.+)$", conda, re.M) == ["conda-forge", "python=3.11", "pip"]
    extras = ",".join(sorted(PROJECT["project"]["optional-dependencies"]))
    assert re.findall(r"^      - (.+)$", pip, re.M) == ["-c constraints.txt", f"-e .[{extras}]"]
    assert PROJECT["project"]["requires-python"] == ">=3.11"


@pytest.mark.parametrize("name", notebooks.names())
def test_notebooks_are_stored_clean_and_hold_no_library_code(name):
    path = paths.NOTEBOOKS / f"{name}.ipynb"
    stored = path.read_text()
    notebook = json.loads(stored)
    code = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    assert all(c["outputs"] == [] and c["execution_count"] is None for c in notebook["cells"] if c["cell_type"] == "code")
    assert all(set(c["metadata"]) <= {"tags"} for c in notebook["cells"])
    tagged = [c for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", [])]
    assert len(tagged) == 1
    assert {"profile", "seed", "from_records"} <= {
        target.id for node in ast.parse("".join(tagged[0]["source"])).body for target in node.targets
    }
    for cell in code:
        assert len(cell.splitlines()) <= 25, cell[:80]
        tree = ast.parse(cell)
        assert not [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)], cell
    assert notebook["cells"][0]["cell_type"] == "markdown"


def test_figures_shown_in_notebooks_and_readme_exist():
    sources = [(ROOT / "README.md").read_text()]
    for name in notebooks.names():
        cells = json.loads((paths.NOTEBOOKS / f"{name}.ipynb").read_text())["cells"]
        sources += ["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"]
    shown = [match for text in sources for match in re.findall(r"figures/([\w-]+\.png)", text)]
    assert len(shown) >= 4
    assert not [name for name in shown if not (paths.FIGURES / name).is_file()]


def test_the_readme_names_only_what_exists_and_its_blocks_are_current():
    text = (ROOT / "README.md").read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith("http")]
    commands = re.findall(r"(?<![\w/])\./([\w.]+)", text)
    assert len(links) >= 5 and {"run_all.sh", "run_tests.sh"} <= set(commands)
    assert not [name for name in links + commands if not (ROOT / name).exists()]
    tree = text.split("```\nmemlm", 1)[0].count("```")
    assert tree >= 1
    for module in paths.PACKAGE.glob("*.py"):
        assert module.name in text or module.name == "__init__.py", f"{module.name} is missing from the README's tree"
    assert publish.filled(text) == text, "run python -m memlm publish"


def test_no_path_of_a_machine_no_registry_and_no_pickle():
    forbidden = {
        "a machine's path": r"(?<![\w.])/(?:home|root|work|farm|Users)/\w",
        "a registry host": "files." + "pythonhosted|pypi.org/" + "simple|registry." + "npmjs",
        "a pickle": r"\bimport pickle\b|pickle\.load|weights_only=False",
    }
    checked = 0
    for path in tracked():
        if (
            path.suffix in (".py", ".sh", ".toml", ".txt", ".yml", ".md", ".ipynb", ".json", ".jsonl", ".cff")
            or not path.suffix
        ):
            checked += 1
            for name, pattern in forbidden.items():
                if path.name != "test_project.py":
                    assert not re.search(pattern, path.read_text(errors="replace")), (name, path)
    assert checked > 30


def texts_of_unnamed_encoding(code):
    """Lines on which a text is opened, read or written in the encoding of whatever locale there is."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and not any(keyword.arg == "encoding" for keyword in node.keywords):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            modes = [arg.value for arg in node.args[:2] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            binary = any(set("rwabx+") >= set(mode) and "b" in mode for mode in modes)
            bare_open = isinstance(node.func, ast.Name) and name == "open" and not binary
            if name in ("read_text", "write_text") or bare_open:
                yield node.lineno


def test_no_text_is_read_or_written_in_the_encoding_of_the_locale():
    planted = "open(p)\nopen(p, 'w')\np.read_text()\np.write_text(t)\nopen(p, 'rb')\nopen(p, encoding='utf8')\nimage.open(p)"
    assert list(texts_of_unnamed_encoding(planted)) == [1, 2, 3, 4]
    modules = sorted(paths.PACKAGE.rglob("*.py"))
    assert len(modules) > 30
    found = [f"{m.name}:{line}" for m in modules for line in texts_of_unnamed_encoding(m.read_text(encoding="utf8"))]
    assert not found, found


def test_importing_memlm_is_fast_and_loads_no_slow_library():
    code = "import sys, time; t = time.perf_counter(); import memlm; from memlm import claims, figures, paths; "
    code += "assert not {'torch', 'transformers', 'matplotlib', 'scipy', 'sympy'} & set(sys.modules); "
    code += "print(time.perf_counter() - t)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert float(answer.stdout) < 1.5


def test_an_unknown_submodule_is_named():
    import memlm

    with pytest.raises(AttributeError, match="module 'memlm' has no attribute 'utils'; it has ambiguity"):
        memlm.utils  # noqa: B018


def test_writing_leaves_the_old_file_or_the_new_one(tmp_path):
    path = tmp_path / "deep" / "file.json"
    paths.write_json(path, {"b": 1, "a": [1.5]})
    assert json.loads(path.read_text()) == {"a": [1.5], "b": 1}
    old = path.read_bytes()
    with pytest.raises(RuntimeError, match="interrupted"), paths.writing(path) as file:
        file.write(b"half of")
        raise RuntimeError("interrupted")
    assert path.read_bytes() == old
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]


def test_a_sealed_file_is_read_back_and_every_damage_is_one_sentence_that_names_it(tmp_path):
    path, shape = tmp_path / "stamp.json", {"step": int, "entries": {...: {"name": str}}}
    value = {"step": 3, "entries": {"a": {"name": "x"}}}
    paths.write_sealed(path, value)
    assert paths.read_sealed(path, shape, "") == value
    whole = path.read_bytes()
    damages = [b"", b"null", b"[]", b"1", b'"text"', b"{}", whole[:-9], whole.replace(b"3", b"4"), b"\0" * len(whole)]
    for damage in [*damages, b"\xff" + whole]:
        path.write_bytes(damage)
        with pytest.raises(paths.Damaged, match=rf"^{path} .*; make it again$"):
            paths.read_sealed(path, shape, "make it again")
    for other in ({"step": 3}, {"step": "3", "entries": {}}, {**value, "entries": []}, {**value, "entries": {"a": {}}}):
        paths.write_sealed(path, other)
        with pytest.raises(paths.Damaged, match=r"has (no )?(step|entries)"):
            paths.read_sealed(path, shape, "make it again")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/tmp/x", "a/b", "../x", "a\\b", ".hidden", "-x", "a\0", "a\n", "x" * 101, "a "]
)
def test_a_name_that_is_no_plain_component_is_refused(name):
    with pytest.raises(ValueError, match=r"the name is .*expected a plain name"):
        paths.plain_name(name, "the name")
    assert paths.plain_name("mine 2.1_böcker+x-3", "the name")
