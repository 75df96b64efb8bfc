"""memlm: is "Beyond Scaling Laws: Understanding Transformer Performance with Associative Memory" right?

Reading order (each module uses only those above it):

    paths        where things are, and the one way anything is written
    energy       the energies of the paper, their gradients, their update steps
    certified    volumes, masses and radii of balls in ball arithmetic
    ball         the same in floats, in the log domain
    ball_proofs  checkers for what is stated about balls
    grammar      probabilistic grammars with exact entropy; the Question-Formation language
    corpora      where training lines come from, and what may be in them
    models       the Transformers that are trained
    train        one training loop
    runs         a run is found by the hash of its configuration and of the code that made it
    experiments  which runs each profile consists of
    claims       the ledger: verdicts are computed from checks
    figures      one style, reproducible bytes, a manifest
    notebooks    the Papermill runner
    __main__     the command line

Submodules load on first use, so that ``import memlm`` costs milliseconds and a notebook pays for PyTorch only when it
needs it.
"""

import importlib
from pathlib import Path

__version__ = "0.1.0"
__all__ = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))


def __getattr__(name):
    if name in __all__:
        return importlib.import_module(f"memlm.{name}")
    raise AttributeError(f"module 'memlm' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__():
    return [*__all__, "__version__"]
