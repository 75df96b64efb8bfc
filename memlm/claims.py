"""The ledger of claims, and verdicts that are computed from checks, never typed in.

``claims.toml`` says what each claim states, where, and which verdict is expected. A notebook gathers checks and calls
``record``; the verdict follows from the checks by ``verdict``; a verdict other than the expected one is an error.
"""

import json
import math
import os
import re
import statistics
import tomllib
from dataclasses import MISSING, asdict, dataclass, fields, replace
from functools import cache
from graphlib import CycleError, TopologicalSorter
from numbers import Real

from memlm.paths import (
    AGREED,
    LEDGER,
    NOTEBOOKS,
    RECORDS,
    REPORT,
    ROOT,
    STAGE,
    Damaged,
    read_sealed,
    sha256,
    shown,
    stage,
    write_sealed,
    writing,
)

VERDICTS = ("holds", "holds, corrected", "holds under an added assumption", "fails as printed", "not decided")
EVIDENCE = ("proved", "certified", "measured", "attacked")
PROFILES = ("smoke", "cpu", "gpu", "paper")
_GENERALITY = re.compile(r"every |one case: |\w+ (=|>=|<=|in) ")
_CHECK = {"name": str, "passed": (bool, type(None)), "evidence": str, "detail": str, "generality": str}
_ENTRY = {"id": str, "verdict": str, "profile": str, "checks": {...: [_CHECK]}}
_MADE = {"seed": int, "outputs": {...: str}}  # of the stamp that the runner leaves of a notebook that came to its end


@dataclass(frozen=True)
class Check:
    """One thing that was tried: whether it came out true (None: it decided nothing), by which evidence, and how. Of a proof
    ``generality`` says for which n, d, x it was carried out: nothing wider follows from it."""

    name: str
    passed: bool | None
    evidence: str
    detail: str
    generality: str = ""

    def __post_init__(self):
        if self.evidence not in EVIDENCE:
            raise ValueError(f"evidence is {self.evidence!r}; expected one of {', '.join(EVIDENCE)}")
        if bool(_GENERALITY.match(self.generality)) != (self.evidence == "proved"):
            raise ValueError(
                f"{self.name}: generality is {self.generality!r}; expected of a proof, and of a proof alone, "
                "'every ...', 'one case: ...' or a range such as 'n = 1, d = 3'"
            )


def check_profile(name):
    """Raise ValueError, with the profiles there are, for any other ``name``."""
    if name not in PROFILES:
        raise ValueError(f"profile is {name!r}; expected one of {', '.join(PROFILES)}")


def _truth(name, passed):
    """True, False or None, from Python, NumPy, torch or SymPy. A number, a ball or a search's result is no truth value:
    bool() calls nearly all of them true, nan among them."""
    plain = passed.item() if getattr(passed, "shape", None) == () else passed
    if plain is None or isinstance(plain, bool):
        return plain
    if type(plain).__name__ in ("BooleanTrue", "BooleanFalse"):
        return bool(plain)
    raise ValueError(f"{name}: passed is {passed!r}; expected True, False or None")


def proved(name, passed, generality, detail=""):
    """A symbolic proof (or disproof); ``generality`` says for which n, d, x it was carried out, ``detail`` how or what."""
    return Check(name, _truth(name, passed), "proved", detail, generality)


def certified(name, passed, detail):
    """A statement about exact rationals or balls. ``passed`` is None where the balls overlap and decide nothing."""
    return Check(name, _truth(name, passed), "certified", detail)


def settled(true, false):
    """True, False or None from two comparisons of balls: of such only a True proves anything, so both sides are asked.

    ValueError for the truth value of NumPy or torch, which comes of rounded numbers, and for two True.
    """
    if not isinstance(true, bool) or not isinstance(false, bool) or (true and false):
        raise ValueError(f"the comparisons are {true!r} and {false!r}; expected those of balls, bools of which one is False")
    return True if true else False if false else None


def agree(a, b, tolerance):
    """Are two balls less than ``tolerance`` apart? True or False where that is certain, else None: wide balls that overlap
    may hold different numbers."""
    gap = abs(a - b)
    return settled(gap < tolerance, gap > tolerance)


def contrary(outcome):
    """False for True, True for False, None for None: whether what was asked fails."""
    return None if outcome is None else not _truth("outcome", outcome)


def every(outcomes):
    """Whether all of several outcomes are True: False if one is False, else None if one is None. ValueError for none."""
    outcomes = [_truth("outcomes", outcome) for outcome in outcomes]
    if not outcomes:
        raise ValueError("outcomes is empty; expected at least one: of none everything is true")
    return False if False in outcomes else None if None in outcomes else True


def attacked(name, slack, tries, where="", sets=None):
    """A search for a violation: ``slack`` is the least margin found in ``tries`` tries, negative if violated. Where many
    states are tried with each set of patterns, ``sets`` says how many sets: states of one set are no independent tries.

    A slack of nan or infinity, or no try, is no finding: undecided.
    """
    slack = float(slack)
    passed = None if math.isnan(slack) or slack == math.inf or not tries >= 1 else slack >= 0
    tried = f"{tries:,} tries" if sets is None else f"{tries:,} states of {sets:,} sets of patterns"
    return Check(name, passed, "attacked", f"least slack {slack:.3g} in {tried} {where}".strip())


def interval(values, level=0.95):
    """Mean and half-width of Student's t interval of the mean of ``values``, of the coverage ``level`` in (0, 1).

    Both are nan where a value is nan or infinite, the half-width is nan for one value: such an interval decides nothing.
    """
    from scipy.stats import t

    if not isinstance(level, Real) or not 0 < level < 1:
        raise ValueError(f"level is {level}; expected a share between 0 and 1, such as 0.95")
    values = [float(v) for v in values]
    if not values:
        raise ValueError("values is empty; expected at least one number")
    if not all(map(math.isfinite, values)):
        return math.nan, math.nan
    mean, n = statistics.mean(values), len(values)
    if n == 1:
        return mean, math.nan
    return mean, float(t.ppf((1 + float(level)) / 2, n - 1)) * statistics.stdev(values) / math.sqrt(n)


def _number(name, what, value, least=-math.inf):
    value = float(value)
    if not (math.isfinite(value) and value >= least):
        raise ValueError(f"{name}: {what} is {value}; expected a finite number{f' >= {least}' if least == 0 else ''}")
    return value


def measured(name, values, target, tolerance, reason, unit="nats per token"):
    """Is the mean of ``values`` (one per seed, at least three) within ``tolerance`` of ``target``?

    True if the whole 95 % t interval lies inside the band, False if it lies outside, None if it straddles an edge or
    there are fewer than three values, or one that is not finite. ``reason`` says why the band is this wide; it is written
    before the run. ValueError unless target and tolerance >= 0 are finite.
    """
    target, tolerance = _number(name, "target", target), _number(name, "tolerance", tolerance, 0)
    mean, half = interval(values)
    offset = abs(mean - target)
    passed = None
    if len(values) >= 3 and offset + half <= tolerance:
        passed = True
    elif len(values) >= 3 and offset - half > tolerance:
        passed = False
    detail = f"{mean:.4f} ± {half:.4f} {unit} (n = {len(values)}), band {target:.4f} ± {tolerance:g}: {reason}"
    return Check(name, passed, "measured", detail)


def above(name, values, bound, reason, unit="nats per token"):
    """Does the mean of ``values`` (one per seed, at least three) lie above ``bound``? As ``measured`` decides it: True where
    the whole 95 % t interval does, False where none of it does, None otherwise. ValueError unless the bound is finite."""
    bound = _number(name, "bound", bound)
    mean, half = interval(values)
    passed = mean > bound if len(values) >= 3 and abs(mean - bound) > half else None
    return Check(
        name, passed, "measured", f"{mean:.4f} ± {half:.4f} {unit} (n = {len(values)}), bound {bound:.4g}: {reason}"
    )


def below(name, values, bound, reason, unit="nats per token"):
    """Does it lie below? See ``above``."""
    check = above(name, values, bound, reason, unit)
    return replace(check, passed=None if check.passed is None else not check.passed)


@dataclass(frozen=True)
class Claim:
    """An entry of the ledger.

    ``scale`` says at which sizes it is decided, ``limits`` what was not tried, ``because`` why the expected verdict is
    expected, ``needs`` which claims it rests on, ``second`` by which other derivation or implementation it was found too.
    ``decided_from`` is the smallest profile whose runs are large enough to decide it; ``coq`` names theorems of proofs/
    whose statement is this claim's, as printed or as repaired, and which ./run_tests.sh --proofs checks.
    """

    id: str
    title: str
    version: str
    place: str
    statement: str
    scale: str
    limits: str
    because: str
    expected: str
    notebook: str
    tests: tuple[str, ...]
    needs: tuple[str, ...] = ()
    second: str = ""
    decided_from: str = "smoke"
    coq: tuple[str, ...] = ()


_REQUIRED = {field.name for field in fields(Claim) if field.default is MISSING}


@cache
def _ledger(path, modified):
    claims = {}
    try:
        entries = tomllib.loads(path.read_text(encoding="utf8")).get("claim")
    except ValueError as error:
        raise ValueError(f"{shown(path)} is no TOML: {error}") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{shown(path)} has no [[claim]]; expected one for each claim")
    for entry in entries:
        known = [field.name for field in fields(Claim)]
        if entry.keys() - set(known) or _REQUIRED - entry.keys():
            raise ValueError(f"claim {entry.get('id')!r} has fields {sorted(entry)}; expected {sorted(known)}")
        claim = Claim(**{name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()})
        if claim.expected not in VERDICTS or claim.decided_from not in PROFILES or claim.id in claims:
            raise ValueError(f"claim {claim.id!r}: expected verdict, profile or id is unknown or given twice")
        claims[claim.id] = claim
    _check_needs(claims)
    return claims


def _check_needs(claims):
    """ValueError where a claim rests on one that is not in the ledger, or in the end on itself."""
    for claim in claims.values():
        if unknown := set(claim.needs) - claims.keys():
            raise ValueError(f"claim {claim.id!r} needs {min(unknown)!r}; expected ids of the ledger")
    try:
        TopologicalSorter({claim.id: claim.needs for claim in claims.values()}).prepare()
    except CycleError as error:
        raise ValueError(f"claims need each other: {' <- '.join(error.args[1])}; expected grounds that end") from None


def ledger(path=LEDGER):
    """All claims by id, in the ledger's order. Raises ValueError that names the claim whose entry is malformed."""
    return _ledger(path, path.stat().st_mtime_ns)


def missing(claims=None, notebooks=NOTEBOOKS, root=ROOT):
    """What a claim promises and the tree lacks: its notebook, that notebook's record(), tests, theorems. [] if nothing."""
    problems = []
    theorems = "".join(path.read_text(encoding="utf8") for path in sorted((root / "proofs").glob("*.v")))
    for claim in (claims or ledger()).values():
        notebook = notebooks / f"{claim.notebook}.ipynb"
        cells = json.loads(notebook.read_text(encoding="utf8"))["cells"] if notebook.is_file() else []
        if not any(f'"{claim.id}"' in "".join(c["source"]) for c in cells if c["cell_type"] == "code"):
            problems.append(f"{claim.id}: notebook {claim.notebook} does not record it")
        if not claim.tests:
            problems.append(f"{claim.id}: no test is named")
        for test in claim.tests:
            file, _, name = test.partition("::")
            if not (root / file).is_file() or f"def {name}(" not in (root / file).read_text(encoding="utf8"):
                problems.append(f"{claim.id}: test {test} does not exist")
        for name in claim.coq:
            if f"Theorem {name} " not in theorems:
                problems.append(f"{claim.id}: theorem {name} is not stated in proofs/")
    return problems


def _agreed():
    """{id: (hash of its statement, hash of its checks)} as they were when somebody last saw both: claims.agreed."""
    lines = AGREED.read_text(encoding="utf8").splitlines() if AGREED.is_file() else []
    return {id: (statement, checks) for id, statement, checks in (line.split() for line in lines)}


def present(id, notebooks=NOTEBOOKS):
    """What a claim states, and its checks: the cells of its notebook that name it, each with the cells between it and the
    record of an earlier claim, where they are computed. Two texts."""
    claim = ledger()[id]
    cells = json.loads((notebooks / f"{claim.notebook}.ipynb").read_text(encoding="utf8"))["cells"]
    since, kept = [], []
    for source in ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"):
        since.append(source)
        if f'"{id}"' in source:
            kept, since = [*kept, *since], []
        elif "claims.record(" in source:
            since = []
    return claim.statement, "\n\n".join(kept)


def unseen():
    """Claims whose statement or checks have changed since somebody last saw them side by side, and which of the two: {id:
    (statement changed, checks changed)}; ids of no claim any more are among them. {} if there are none."""
    agreed, now = _agreed(), {id: tuple(sha256(text)[:12] for text in present(id)) for id in ledger()}
    changed = {id: tuple(a != b for a, b in zip(now[id], agreed.get(id, ("", "")), strict=True)) for id in now}
    return {id: which for id, which in changed.items() if any(which)} | {
        id: (True, True) for id in agreed.keys() - now.keys()
    }


def agree_to_statements():
    """Write down the statements and checks of all claims as they are now: a person has seen them side by side."""
    lines = [" ".join([id, *(sha256(text)[:12] for text in present(id))]) for id in ledger()]
    with writing(AGREED) as file:
        file.write("\n".join([*lines, ""]).encode())


def verdict(printed, corrected=(), assuming=()):
    """The verdict that checks imply.

    printed: checks of the statement as printed. All true: holds. One false: it fails, and then all-true checks of a
    corrected statement of the same form, or of the statement under an added assumption, say how it can be saved.
    Anything else (nothing checked, or nothing false and something undecided): not decided.
    """
    outcomes = [check.passed for check in printed]
    if outcomes and all(outcomes):
        return "holds"
    if False not in outcomes:
        return "not decided"
    if corrected and all(check.passed for check in corrected):
        return "holds, corrected"
    if assuming and all(check.passed for check in assuming):
        return "holds under an added assumption"
    return "fails as printed"


class ChangedVerdict(AssertionError):
    """The checks imply another verdict than the ledger expects."""


def record(id, *, profile, printed, corrected=(), assuming=(), folder=None):
    """Compute the verdict on claim ``id``, store it with its checks, print them, and hold it against the ledger.

    Where ``profile`` is smaller than the claim's ``decided_from``, measurements decide nothing. A verdict that ``changed``
    names raises ChangedVerdict, KeyError an id that is not in the ledger. Stored in ``folder``, by default the runner's or,
    by hand, a scratch folder, which is then printed (see ``paths.stage``).
    """
    check_profile(profile)
    if id not in ledger():
        raise KeyError(f"claim {id!r} is not in the ledger; it has {', '.join(ledger())}")
    claim = ledger()[id]
    if _too_small(profile, claim):
        printed, corrected, assuming = (
            [replace(check, passed=None) if check.evidence == "measured" else check for check in checks]
            for checks in (printed, corrected, assuming)
        )
    reached = verdict(printed, corrected, assuming)
    entry = {
        "id": id,
        "verdict": reached,
        "profile": profile,
        "checks": {
            kind: [asdict(check) for check in checks]
            for kind, checks in (("printed", printed), ("corrected", corrected), ("assuming", assuming))
            if checks
        },
    }
    write_sealed((folder or stage(profile) / "verdicts") / f"{id}.json", entry)
    by_hand = "" if folder or STAGE in os.environ else f" (run by hand: {shown(stage(profile))}/)"
    print(f"{id} · {claim.title}: {reached.upper()}{by_hand}")
    for kind, checks in entry["checks"].items():
        for check in checks:
            mark = {True: "✓", False: "✗", None: "?"}[check["passed"]]
            how = "; ".join(filter(None, (check["generality"], check["detail"])))
            print(f"  {mark} {kind}: {check['name']} [{check['evidence']}] {how}")
    for problem in changed({id: entry}):
        raise ChangedVerdict(problem)
    return reached


def _too_small(profile, claim):
    return PROFILES.index(profile) < PROFILES.index(claim.decided_from)


def changed(entries):
    """Sentences about verdicts that are not those which the ledger expects; [] if all are.

    A claim may stay undecided where the profile is smaller than its ``decided_from``, and in gpu and paper, where a run can
    be too long for three seeds.
    """
    problems = []
    for id, entry in entries.items():
        claim, reached, profile = ledger()[id], entry["verdict"], entry["profile"]
        may_be_open = _too_small(profile, claim) or profile in ("gpu", "paper")
        if reached != claim.expected and not (may_be_open and reached == "not decided"):
            problems.append(f"claim {id} is now {reached!r}; the ledger expects {claim.expected!r}")
    return problems


def recorded(profile=None, seed=0):
    """Stored verdicts by id: those of the runner's last run of ``profile``, or those committed with the project; {} where
    none were made. Raises paths.Damaged for one that was changed since, whose verdict does not follow from its checks, or
    that was made in another profile or, the committed ones apart, with another ``seed``."""
    if profile is None:
        file = RECORDS / "verdicts.json"
        entries = read_sealed(file, {...: _ENTRY}, f"git checkout -- {shown(file)}") if file.is_file() else {}
        return {entry["id"]: _followed(entry, file) for entry in entries.values()}
    check_profile(profile)
    files = sorted((REPORT / profile / "verdicts").glob("*.json"))
    found = [(file, read_sealed(file, _ENTRY, f"execute its notebook again in profile {profile}")) for file in files]
    return {entry["id"]: _made(_followed(entry, file), file, profile, seed) for file, entry in found}


def _made(entry, file, profile, seed):
    """An entry, if the last execution of its notebook that came to its end left it, in this profile and with this seed."""
    notebook = ledger()[entry["id"]].notebook
    try:
        stamp = read_sealed(REPORT / profile / f"{notebook}.json", _MADE, "")
    except (FileNotFoundError, Damaged):
        stamp = {"outputs": {}}
    if entry["profile"] != profile:
        made = f"of profile {entry['profile']}"
    elif stamp["outputs"].get(f"verdicts/{file.name}") != sha256(file):
        made = f"not what {notebook} left when it last came to its end"
    elif stamp["seed"] != seed:
        made = f"of seed {stamp['seed']}"
    else:
        return entry
    raise Damaged(
        f"the verdict on claim {entry['id']} in {shown(file)} is {made}; "
        f"execute {notebook} in profile {profile} with seed {seed}"
    )


def recorded_profile():
    """The profile whose verdicts are committed with the project."""
    return next((entry["profile"] for entry in recorded().values()), "cpu")


def publish(entries):
    """Commit verdicts with the project, as data/records/verdicts.json."""
    write_sealed(RECORDS / "verdicts.json", entries)


def _followed(entry, file):
    """An entry, if it is of a claim and its verdict is the one that its checks imply."""
    problem = None
    if entry["id"] not in ledger():
        problem = f"holds a verdict on {entry['id']!r}, which is not in the ledger"
    else:
        kinds = [entry["checks"].get(kind, ()) for kind in ("printed", "corrected", "assuming")]
        implied = verdict(*[[Check(**{name: check[name] for name in _CHECK}) for check in found] for found in kinds])
        if implied != entry["verdict"]:
            problem = f"calls {entry['id']} {entry['verdict']!r}; its checks imply {implied!r}"
    if problem:
        raise Damaged(f"{shown(file)} {problem}")
    return entry


def _place(claim):
    """Sorts as a reader looks things up: the paper's numbered statements, its remarks, then the suite's own."""
    letters, digits = re.match(r"([A-Z]+)(\d*)", claim.id).groups()
    order = ("L", "P", "E", "A", "T", "F", "X", "SM", "CV", "MM", "RAD", "S")
    return order.index(letters) if letters in order else len(order), int(digits or 0)


def table(entries):
    """Markdown table of the ledger with the verdicts in ``entries`` and the kinds of evidence behind them."""
    rows = []
    for claim in sorted(ledger().values(), key=_place):
        entry = entries.get(claim.id, {"verdict": "not yet recorded", "checks": {}})
        kinds = sorted({check["evidence"] for checks in entry["checks"].values() for check in checks}, key=EVIDENCE.index)
        kinds += ["proved (Coq)"] * bool(claim.coq)
        rows.append((claim.id, claim.title, claim.place, f"**{entry['verdict']}**", claim.scale, ", ".join(kinds)))
    return markdown(("claim", "what it says", "place", "verdict", "at what scale", "evidence"), rows)


def markdown(head, rows):
    """A Markdown table. A bar within a cell is escaped, or it would begin another cell; a line break becomes a blank."""
    lines = [head, ["---"] * len(head), *rows]
    cells = [[re.sub(r"(\\*)\|", r"\1\1\\|", " ".join(str(cell).split())) for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)
