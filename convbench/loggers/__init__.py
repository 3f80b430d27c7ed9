"""The sinks of a training run: the console, TensorBoard and the files of the run folder."""
