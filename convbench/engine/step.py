"""One training step: what happens to a batch, without a word to the host."""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from convbench.convs.temperature import temperature_buffers
from convbench.engine.device import autocast
from convbench.engine.graph import StepGraph
from convbench.engine.metrics import Meter
from convbench.engine.optimizers import set_learning_rate
from convbench.engine.schedules import Anneal, Clock, Schedule


class TrainStep:
    """Forward, backward, update, with learning rate and temperature set for the step.

    Args:
        network: on its device, in training mode. What a method `auxiliary_loss` of its modules returns, 0-d, is added
            to the loss that is minimised; None leaves that module out for good.
        optimizer: over its parameters.
        criterion: `(logits, labels) -> loss`.
        schedule: share of the learning rate for each step.
        anneal: temperature for each step; reaches every buffer called `temperature`.
        clock: length of the run.
        precision: `none`, `bf16` or `fp16`.
        device: where it all happens.
        parallel: the network as it is called: wrapped, where several processes train together; None for itself.
        accumulate: parts of a batch that go through the network one after the other, to need less memory; processes
            exchange gradients after the last one only.
        has_graph: launch a step at once, as a CUDA graph.

    Attributes:
        meter: loss and accuracy over the samples of the epoch.
        lr, temperature: as set by the last call.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Optimizer,
        criterion: Callable[[Tensor, Tensor], Tensor],
        schedule: Schedule,
        anneal: Anneal,
        clock: Clock,
        precision: str,
        device: torch.device,
        parallel: DistributedDataParallel | None = None,
        accumulate: int = 1,
        has_graph: bool = False,
    ) -> None:
        self.network = network
        self.parallel = parallel
        self.accumulate = accumulate
        self.optimizer = optimizer
        self.criterion = criterion
        self.schedule = schedule
        self.anneal = anneal
        self.clock = clock
        self.device = device
        self.meter = Meter(device)
        self.autocast = autocast(device, precision)
        # bf16 has the exponents of float32 and needs no scaling; a disabled scaler passes everything through
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.base_lr = float(optimizer.param_groups[0]["lr"])
        self.lr = 0.0
        self.temperature: float | None = None
        self._temperatures = temperature_buffers(network)

        losses: list[Any] = [getattr(module, "auxiliary_loss", None) for module in network.modules()]
        self._carry_out = StepGraph(self._update) if has_graph else self._update
        self._auxiliary_losses = [loss for loss in losses if loss is not None and loss() is not None]

    @property
    def has_temperature(self) -> bool:
        """Whether any convolution has a temperature to set."""
        return bool(self._temperatures)

    def __call__(self, step: int, batch: Tensor, labels: Tensor) -> None:
        """Train on float32 `(N, C, H, W)` with labels `(N,)` or probabilities `(N, classes)`.

        Args:
            step: counted from 0 over the whole run.
            batch: images.
            labels: what they show.
        """
        self._set_clock(step)
        self._carry_out(batch, labels)

    def _update(self, batch: Tensor, labels: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        *most, last = zip(batch.chunk(self.accumulate), labels.chunk(self.accumulate), strict=True)
        if most:
            with contextlib.nullcontext() if self.parallel is None else self.parallel.no_sync():
                for part in most:
                    self._backward(*part)
        self._backward(*last)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _backward(self, batch: Tensor, labels: Tensor) -> None:
        """Add the gradients of one part of a batch."""
        with self.autocast:
            logits = (self.network if self.parallel is None else self.parallel)(batch)
            loss = self.criterion(logits, labels)
        total = self._with_auxiliary(loss)
        self.scaler.scale(total if self.accumulate == 1 else total / self.accumulate).backward()
        self.meter.add(loss.detach(), logits.detach(), labels)

    def _with_auxiliary(self, loss: Tensor) -> Tensor:
        """Add what convolutions want kept small beside; the meter shows the loss without, comparable between convs."""
        for auxiliary_loss in self._auxiliary_losses:
            loss = loss + auxiliary_loss()
        return loss

    def _set_clock(self, step: int) -> None:
        self.lr = self.base_lr * self.schedule(step, self.clock)
        set_learning_rate(self.optimizer, self.lr)
        if self._temperatures:
            temperature = self.anneal(step, self.clock)
            if temperature != self.temperature:
                self.temperature = temperature
                for buffer in self._temperatures:
                    buffer.fill_(temperature)
