"""From a configuration to objects, a training run from start to end, and the evaluation of one."""
