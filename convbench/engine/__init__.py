"""The training loop: device, step, schedules, checkpoints."""
