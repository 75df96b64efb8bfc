"""One optimiser step. On a GPU it is compiled and captured: after WARM_UP steps it is one CUDA graph, launched whole.

A step of a small model is hundreds of kernels of a few microseconds each, which a host cannot launch as fast as a GPU runs
them. So nothing in a step waits for the GPU, all batches have one shape, and the learning rate lies on the device.
"""

from contextlib import nullcontext

import torch
import torch.distributed as dist

from memlm.configs import RunConfig, processes
from memlm.corpora import IGNORED
from memlm.loss import linear_cross_entropy

WARM_UP = 3  # steps before the capture: they are steps like all others, and leave behind what must not be made during it


def autocast(config, device):
    """The context in which a run of this configuration computes: torch's autocast, or none for float32."""
    if config.precision == "float32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, getattr(torch, config.precision))


class Loss(torch.nn.Module):
    """A model as a function of a batch to its summed loss, so that several processes can share it."""

    def __init__(self, model, compiled):
        super().__init__()
        self.model = model
        # A plain function, not a module of its own: its parameters are the model's.
        self.hidden = torch.compile(model.hidden, fullgraph=True, dynamic=False) if compiled else model.hidden

    def forward(self, inputs, targets):
        return linear_cross_entropy(self.hidden(inputs), self.model.head, targets)


class Step:
    """What trains ``model``: calling it with a batch, (inputs, targets) int64 (b, T) on the CPU, takes one optimiser step.

    Returns the batch's mean loss in nats per token, a tensor on the device: reading it waits for the step. Under torchrun
    every process takes its share of the batch and the loss is the sum over processes. ``captured`` says whether steps come
    from a graph by now. On a GPU all batches of one Step have the shape of the first (ValueError).
    """

    def __init__(self, model, config: RunConfig, device):
        self.model, self.config, self.device = model, config, device
        self.rank, self.world = processes()
        *betas, eps = config.adam
        on_gpu = torch.device(device).type == "cuda"
        self.optimiser = torch.optim.AdamW(
            model.parameters(), lr=torch.tensor(config.lr, device=device) if on_gpu else config.lr,
            weight_decay=config.weight_decay, betas=betas, eps=eps, fused=True, capturable=on_gpu,
        )  # fmt: skip
        self._loss_of = Loss(model, compiled=on_gpu)
        if self.world > 1:
            self._loss_of = torch.nn.parallel.DistributedDataParallel(self._loss_of)
        self._stream = torch.cuda.Stream(device) if on_gpu and self.world == 1 else None  # a capture has one of its own
        self._taken, self._batch, self._graph, self._loss = 0, None, None, None

    @property
    def captured(self):
        return self._graph is not None

    def set_rate(self, rate):
        """The learning rate of the steps from now on."""
        for group in self.optimiser.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def __call__(self, batch):
        if self._stream is None:
            return self._take(*(part[self.rank :: self.world].to(self.device, non_blocking=True) for part in batch))
        if self._batch is None:
            self._batch = tuple(torch.empty_like(part, device=self.device) for part in batch)
        for kept, part in zip(self._batch, batch, strict=True):
            if kept.shape != part.shape:
                raise ValueError(f"a batch has shape {tuple(part.shape)}; expected {tuple(kept.shape)}, as the first one")
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._stream):
            for kept, part in zip(self._batch, batch, strict=True):
                kept.copy_(part, non_blocking=True)
            loss = self._replay() if self._taken >= WARM_UP else self._take(*self._batch)
        self._taken += 1
        torch.cuda.current_stream(self.device).wait_stream(self._stream)
        return loss

    def _replay(self):
        if self._graph is None:
            graph = torch.cuda.CUDAGraph()
            # The thread that pins the next batch may go on meanwhile.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._loss = self._take(*self._batch)
            self._graph = graph
        self._graph.replay()
        return self._loss.clone()

    def _take(self, inputs, targets):
        """The step itself, on this process's share of a batch. Nothing in it reads a number back from the device."""
        config, total = self.config, torch.zeros((), device=self.device)
        count = (targets != IGNORED).sum()
        if self.world > 1:
            dist.all_reduce(count)
        self.optimiser.zero_grad(set_to_none=True)
        parts = list(zip(inputs.chunk(config.accumulate), targets.chunk(config.accumulate), strict=True))
        for number, (x, y) in enumerate(parts, 1):
            wait = self._loss_of.no_sync() if self.world > 1 and number < len(parts) else nullcontext()
            with wait, autocast(config, self.device):
                loss = self._loss_of(x, y) / count
            (loss * self.world).backward()  # several processes average their gradients, which have to add up
            total += loss.detach()
        if self.world > 1:
            dist.all_reduce(total)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        return total
