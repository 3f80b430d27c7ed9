"""One training step, without a host synchronization."""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from convbench.convs.auxiliary_loss import auxiliary_loss_methods
from convbench.convs.temperature import temperature_buffers
from convbench.engine.device import autocast
from convbench.engine.graph import StepGraph
from convbench.engine.metrics import Meter
from convbench.engine.optimizers import set_learning_rate
from convbench.engine.schedules import Anneal, Clock, Schedule


class TrainStep:
    """Sets the learning rate and the temperature, then runs the forward pass, the backward pass and the optimizer.

    A module of the network may have a method `auxiliary_loss`, which returns a 0-d tensor. The training step adds it to
    the loss that is minimised. A module whose method returns None at construction is not asked again.

    Args:
        network: The network, on its device and in training mode.
        optimizer: The optimizer of its parameters.
        criterion: A function `(logits, labels) -> loss`.
        schedule: The factor on the learning rate for each step.
        anneal: The temperature for each step, copied to every buffer called `temperature`.
        clock: The length of the run.
        precision: `none`, `bf16` or `fp16`.
        device: The device of the network and the batches.
        parallel: The network wrapped in DistributedDataParallel; None if only one process trains it.
        accumulate: Number of equal parts of a batch for gradient accumulation, which needs less memory. Processes
            exchange gradients only after the last part.
        has_graph: Whether to capture the step as a CUDA graph.

    Attributes:
        meter: Loss and accuracy over the samples of the epoch.
        lr: Learning rate of the last step.
        temperature: Temperature of the last step; None if no module has one.
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
        # bf16 has the exponent range of float32 and needs no loss scaling. A disabled scaler has no effect.
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.base_lr = float(optimizer.param_groups[0]["lr"])
        self.lr = 0.0
        self.temperature: float | None = None
        self._temperatures = temperature_buffers(network)

        methods = auxiliary_loss_methods(network)
        self._auxiliary_losses: list[Any] = [method for method in methods if method() is not None]
        self._run_update = StepGraph(self._update) if has_graph else self._update

    @property
    def has_temperature(self) -> bool:
        """Whether any module has a temperature."""
        return bool(self._temperatures)

    def __call__(self, step: int, batch: Tensor, labels: Tensor) -> None:
        """Train on one batch.

        Args:
            step: Index of the step, counted from 0 over the whole run.
            batch: Float32 images, `(N, C, H, W)`.
            labels: Labels, `(N,)`, or class probabilities, `(N, classes)`.
        """
        self._apply_schedules(step)
        self._run_update(batch, labels)

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
        """Accumulate the gradients of one part of a batch."""
        with self.autocast:
            logits = (self.network if self.parallel is None else self.parallel)(batch)
            loss = self.criterion(logits, labels)
        total = self._with_auxiliary(loss)
        self.scaler.scale(total if self.accumulate == 1 else total / self.accumulate).backward()
        # Without the auxiliary losses, so that the losses of different convolutions can be compared.
        self.meter.add(loss.detach(), logits.detach(), labels)

    def _with_auxiliary(self, loss: Tensor) -> Tensor:
        """Add the auxiliary losses of the modules to the loss."""
        for auxiliary_loss in self._auxiliary_losses:
            loss = loss + auxiliary_loss()
        return loss

    def _apply_schedules(self, step: int) -> None:
        self.lr = self.base_lr * self.schedule(step, self.clock)
        set_learning_rate(self.optimizer, self.lr)
        if self._temperatures:
            temperature = self.anneal(step, self.clock)
            if temperature != self.temperature:
                self.temperature = temperature
                for buffer in self._temperatures:
                    buffer.fill_(temperature)
