"""memlm: is "Beyond Scaling Laws: Understanding Transformer Performance with Associative Memory" right?

Reading order (each module uses only those above it):

    paths        where things are, and the one way anything is written
    energy       the energies of the paper, their gradients, their update steps
    grammar      probabilistic grammars with exact entropy; the Question-Formation language
    corpora      where training lines come from, and what may be in them
    models       the Transformers that are trained
    loss         their cross-entropy, without the logits
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

__version__ = "0.1.0"
__all__ = [
    "claims",
    "corpora",
    "energy",
    "experiments",
    "figures",
    "grammar",
    "loss",
    "models",
    "notebooks",
    "paths",
    "runs",
    "train",
]


def __getattr__(name):
    if name in __all__:
        return importlib.import_module(f"memlm.{name}")
    raise AttributeError(f"module 'memlm' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__():
    return [*__all__, "__version__"]
