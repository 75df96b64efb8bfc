"""Where things are, how they are written, and how a result knows the code that made it."""

import ast
import hashlib
import json
import os
import re
import tempfile
from contextlib import contextmanager
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent
NOTEBOOKS = ROOT / "notebooks"
FIGURES = ROOT / "figures"
REPORT = ROOT / "report"
RAW = ROOT / "data" / "raw"
CACHE = ROOT / "data" / "cache"
RECORDS = ROOT / "data" / "records"
PROFILES = PACKAGE / "profiles.toml"
LEDGER = PACKAGE / "claims.toml"
AGREED = PACKAGE / "claims.agreed"  # hashes of statements and checks that were seen side by side
STAGE = "MEMLM_STAGE"  # variable of the environment in which the runner starts kernels: see stage


def stage(profile):
    """Folder into which a notebook of this profile puts its figures/ and verdicts/. The runner names it to its kernels; a
    notebook that is run by hand, here or as a copy elsewhere, has a scratch folder and overwrites nothing: in report/, or,
    where nothing can be written there, among the temporary files."""
    if named := os.environ.get(STAGE):
        return Path(named)
    scratch = REPORT / "by-hand" / plain_name(profile, "profile")
    there = next(folder for folder in (scratch, *scratch.parents) if folder.exists())
    if os.access(there, os.W_OK):
        return scratch
    return Path(tempfile.gettempdir()) / f"memlm-by-hand-{os.getuid()}" / profile


@contextmanager
def short_temporary_folder():
    """As long as the ``with`` lasts, temporary files are made where addresses of sockets stay below their 108 bytes.
    Its name holds in every working directory: TMPDIR may be relative."""
    before = tempfile.tempdir
    for folder in (os.path.abspath(tempfile.gettempdir()), "/tmp", "/var/tmp"):
        if len(os.fsencode(folder)) <= 60 and os.access(folder, os.W_OK):
            break
    else:
        raise ValueError(f"TMPDIR is {tempfile.gettempdir()!r}; expected a folder of at most 60 bytes, for sockets")
    tempfile.tempdir = folder
    try:
        yield
    finally:
        tempfile.tempdir = before


@contextmanager
def naming(path):
    """An OSError within that names no file, as from a full disk, is given ``path``."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextmanager
def writing(path):
    """Open a temporary file beside ``path`` for binary writing; it takes the name ``path`` only when all went well.

    The bytes are on the disk (fsync) before the rename, so a reader, or a run that is started again after a crash,
    sees the old file or the new one and never half of one. An OSError, as from a full disk, has the path in it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with naming(path), os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes files for the owner alone
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path, value):
    """Write ``value`` as indented JSON with sorted keys: the same value gives the same bytes."""
    with writing(path) as file:
        file.write((json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())


class Damaged(ValueError):
    """A file that we wrote is no longer what we wrote: cut off, changed by hand, or of another shape."""


def seal(value):
    """Hash of a dict without its own entry ``seal``."""
    return sha256(json.dumps({name: entry for name, entry in value.items() if name != "seal"}, sort_keys=True))


def write_sealed(path, value):
    """Write a dict as JSON that ``read_sealed`` reads: with a hash of itself as its entry ``seal``."""
    write_json(path, {**value, "seal": seal(value)})


def read_sealed(path, shape, advice):
    """The dict that ``write_sealed`` wrote to ``path``, without its seal.

    shape: {key: type, or a shape within}, where the key ... stands for every key, or [shape of every item].
    FileNotFoundError where there is no file, and otherwise Damaged: one sentence with the place of the file, what is wrong
    with it, and ``advice``.
    """
    path = Path(path)
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{shown(path)} is no JSON ({error}); {advice}") from None
    if not isinstance(value, dict):
        raise Damaged(f"{shown(path)} holds {type(value).__name__}; expected an object; {advice}")
    if value.pop("seal", None) != seal(value):
        raise Damaged(f"{shown(path)} does not have the hash in its seal: it was changed or cut off; {advice}")
    return fitting(path, value, shape, advice)


def fitting(where, value, shape, advice):
    """``value``, which stands in ``where`` (a path, or a place in words), if it is of the shape (see ``read_sealed``);
    otherwise Damaged."""
    if problem := _misfit(value, shape):
        raise Damaged(f"{shown(where)} {problem}; {advice}")
    return value


def _misfit(value, shape, where=""):
    """In which way a value is not of a shape, in words; "" if it is."""
    found = f"{f'has {where}' if where else 'is'} of type {type(value).__name__}"
    if not isinstance(shape, dict | list):
        kinds = shape if isinstance(shape, tuple) else (shape,)
        expected = " or ".join(kind.__name__ for kind in kinds)
        return "" if isinstance(value, kinds) else f"{found}; expected {expected}"
    if not isinstance(value, type(shape)):
        return f"{found}; expected {'an object' if isinstance(shape, dict) else 'a list'}"
    if isinstance(shape, list):
        parts = ((f"{where}[{i}]", item, shape[0]) for i, item in enumerate(value))
        return next(filter(None, (_misfit(item, part, place) for place, item, part in parts)), "")
    for name, part in shape.items():
        for key in value if name is ... else [name]:
            place = f"{where}.{key}" if where else key
            if problem := _misfit(value[key], part, place) if key in value else f"has no {place}":
                return problem
    return ""


def shown(path):
    """A path as people are shown it: from the root of the project where it lies within."""
    path = Path(path)
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def plain_name(name, what):
    """``name``, if it is one plain component of a path; otherwise ValueError. What is made, renamed or removed under a name
    that users choose stays in its own folder that way."""
    plain = isinstance(name, str) and re.fullmatch(r"\w[\w .+-]*", name) and not name.endswith((" ", "."))
    if not plain or len(name.encode()) > 100:
        expected = "a plain name of at most 100 bytes: letters, digits, '-', '_', '+', '.', no folder in it"
        raise ValueError(f"{what} is {name!r}; expected {expected}")
    return name


def sha256(data):
    """Hexadecimal SHA-256 of bytes, of a text (UTF-8), or of the file at a ``Path``."""
    if isinstance(data, Path):
        data = data.read_bytes()
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def _without_docstrings(tree):
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list) or not body or not isinstance(body[0], ast.Expr):
            continue
        if isinstance(body[0].value, ast.Constant) and isinstance(body[0].value.value, str):
            node.body = body[1:] or [ast.Pass()]
    return tree


def _imported_modules(tree):
    """Names of the memlm modules that a syntax tree imports, at the top or inside a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "memlm":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("memlm."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("memlm."))


@cache
def _normalised(module, modified):
    tree = _without_docstrings(ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf8")))
    return ast.unparse(tree), sorted(set(_imported_modules(tree)))


def source_hash(*modules, code="", without=()):
    """Hash of the named memlm modules, of ``code`` (Python), and of every memlm module that these import in turn.

    ``without`` names modules that are left out, with what only they import, because the result cannot depend on them.
    Comments, docstrings and layout do not count: only what can change a result changes the hash. Where ``code`` is not
    Python, as it stands, its text and all modules count.
    """
    try:
        tree = _without_docstrings(ast.parse(code))
        code, queue = ast.unparse(tree), [*modules, *_imported_modules(tree)]
    except SyntaxError:  # magics of IPython, or a slip: what such code imports is not known
        queue = sorted(path.stem for path in PACKAGE.glob("*.py"))
    seen = dict.fromkeys(without, "")
    while queue:
        module = queue.pop()
        path = PACKAGE / f"{module}.py"
        if module not in seen and path.is_file():  # a name imported from memlm need not be a module
            seen[module], imports = _normalised(module, path.stat().st_mtime_ns)
            queue.extend(imports)
    return sha256("\n".join([code, *(seen[module] for module in sorted(seen))]))[:16]
