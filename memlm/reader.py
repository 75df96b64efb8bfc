"""Any causal language model as a law of sequences: the energies of tokens, read off what it answers."""

from contextlib import contextmanager
from pathlib import Path

import torch

from memlm.loss import token_losses

PIECE = 2**24  # logits held at a time; their softmax and its entropy take three times as much again


class BadModel(ValueError):
    """There is no model, or what it answers is not one law of the next token for every token."""


class NotCausal(BadModel):
    """An output depends on a later token."""


class TooLong(ValueError):
    """The sequences are longer than the positions that the model knows."""


@contextmanager
def reading(model):
    """A Reader of the model, which is in evaluation mode, and takes no gradients, as long as the ``with`` lasts."""
    from tqdm import tqdm

    modes = [(part, part.training) for part in model.modules()] if isinstance(model, torch.nn.Module) else []
    try:
        for part, _ in modes:
            part.training = False
        with torch.no_grad(), tqdm(desc="energies", unit="sequence", delay=2, mininterval=1, leave=False) as bar:
            yield Reader(model, bar)
    finally:
        for part, mode in modes:
            part.training = mode


class Reader:
    """What is asked of a model of ``memlm.models`` or ``transformers``, or of a callable ids (b, t) -> logits (b, t, V).

    ``vocabulary`` is V; ``embedding`` the module that turns ids into vectors, or None; ``bar`` counts sequences and shows
    after two seconds. Raises BadModel where the answer to one token is not one law.
    """

    def __init__(self, model, bar):
        self.model, self.embedding, self.bar = model, _embedding(model), bar
        weight = next(model.parameters(), None) if isinstance(model, torch.nn.Module) else None
        self.device = "cpu" if weight is None else weight.device
        logits = self.logits(torch.zeros(1, 1, dtype=torch.int64))
        if logits.dim() != 3 or logits.shape[:2] != (1, 1) or logits.shape[2] < 2:
            raise BadModel(f"ids (1, 1) give logits {tuple(logits.shape)}; expected (1, 1, V) with V >= 2, one law a token")
        self.vocabulary = logits.shape[2]

    def logits(self, ids):
        """(b, t, V) in at least float32."""
        answer = self.model(ids.to(self.device))
        logits = getattr(answer, "logits", answer)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def refuse_unless_causal(self, ids):
        """Raise TooLong or NotCausal. ids (n, t): what the model will be shown.

        In a few of them the last token is changed, and the second half: no output before them may change.
        """
        context = _context(self.model)
        if context is not None and ids.shape[1] > context:
            raise TooLong(f"the model is shown {ids.shape[1]} tokens of a sequence; expected at most its context, {context}")
        ids = ids[:4, :64]
        before = self.logits(ids)
        if not torch.allclose(before, self.logits(ids), rtol=1e-3, atol=1e-3, equal_nan=True):
            raise BadModel("the same tokens get other logits when asked twice; expected equal ones, as without dropout")
        finite = before[before.isfinite()]
        # Equal shapes go through equal kernels, so that what an earlier output can change by is rounding, 1e-6 of the
        # logits' spread in float32; a mask that leaks moves them by the spread itself divided by the number of tokens.
        tolerance = 1e-4 * float(finite.std(correction=0)) if len(finite) else 0.0
        for at in {ids.shape[1] - 1, ids.shape[1] // 2}:
            after = self.logits(torch.cat([ids[:, :at], (ids[:, at:] + 1) % self.vocabulary], 1))
            same = torch.isclose(before[:, :at], after[:, :at], rtol=0.0, atol=tolerance, equal_nan=True)
            if not same.all():
                moved = int((~same).any(-1).any(0).sum())
                raise NotCausal(f"{moved} of {at} outputs depend on later tokens; expected none, as under a causal mask")

    def _pieces(self, inputs, targets):
        """Pairs of at most PIECE logits. Their size depends on nothing but shapes, so that noise is the same every time."""
        rows = min(max(PIECE // (inputs.shape[1] * self.vocabulary), 1), 64)
        for x, y in zip(inputs.split(rows), targets.split(rows), strict=True):
            yield x, y.to(self.device)
            self.bar.update(len(x))

    def read(self, ids):
        """Of every predicted token: its energy (n, tokens) float64, whether it is the most likely one, the law's entropy."""
        energies, hits, entropies = [], [], []
        for x, y in self._pieces(ids[:, :-1], ids[:, 1:]):
            logits = self.logits(x)
            hits.append((logits.argmax(-1) == y).cpu())
            log_p = logits.log_softmax(-1)
            energies.append(-log_p.gather(-1, y[..., None])[..., 0].double().cpu())
            entropies.append(torch.special.entr(log_p.exp_()).sum(-1).double().cpu())
        return self._checked(energies), torch.cat(hits), torch.cat(entropies)

    def energies(self, inputs, targets):
        """-log p(target) (n, tokens) float64; without the logits where the model shows its hidden states."""
        found = []
        for x, y in self._pieces(inputs, targets):
            if hasattr(self.model, "hidden"):
                found.append(token_losses(self.model.hidden(x.to(self.device)), self.model.head, y).double().cpu())
            else:
                found.append(-self.logits(x).log_softmax(-1).gather(-1, y[..., None])[..., 0].double().cpu())
        return self._checked(found)

    @staticmethod
    def _checked(energies):
        energies = torch.cat(energies)
        if energies.isnan().any():
            bad = int(energies.isnan().any(1).sum())
            raise BadModel(f"the outputs for {bad} of {len(energies)} sequences hold nan; expected a law of the next token")
        return energies

    @contextmanager
    def noise(self, sigma, seed):
        """As long as the ``with`` lasts, sigma * rms * N(0, 1) is added to every input embedding.

        rms: of the embedding matrix. One seed gives the same N(0, 1), whatever sigma is.
        """
        g, scale = torch.Generator().manual_seed(seed), sigma * self.embedding.weight.square().mean().sqrt()

        def add(_module, _inputs, output):
            return output + scale * torch.randn(output.shape, generator=g).to(output)

        handle = self.embedding.register_forward_hook(add)
        try:
            yield
        finally:
            handle.remove()


def _embedding(model):
    """The module that turns ids into vectors, None where there is none to be found."""
    if hasattr(model, "get_input_embeddings"):
        return model.get_input_embeddings()
    return getattr(model, "embedding", getattr(getattr(model, "network", None), "wte", None))


def _context(model):
    """How many positions a model knows, None where it does not say."""
    if hasattr(model, "positions"):
        return len(model.positions)
    if hasattr(model, "rotation"):
        return model.rotation.shape[1]
    return getattr(getattr(getattr(model, "network", model), "config", None), "max_position_embeddings", None)


def load_pretrained(where):
    """A causal language model of ``transformers`` in evaluation mode, float32: from a local folder or by its hub id.

    Only safetensors are read and no code that comes with a model is run. Raises BadModel, in one sentence, where it is
    not at hand and the hub is out of reach or HF_HUB_OFFLINE is set.
    """
    from huggingface_hub import snapshot_download
    from transformers import AutoModelForCausalLM

    try:  # asking for the list of files takes one request, where transformers would try for half a minute
        folder = where if Path(where).is_dir() else snapshot_download(str(where), allow_patterns=["*.json", "*.safetensors"])
        model = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
        )
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        raise BadModel(f"no model can be read from {str(where)!r} ({reason}); expected a folder or a hub id") from None
    return model.eval()
