"""The training loop: devices, training steps, schedules, evaluation and checkpoints."""
