"""What a run tells: the console, TensorBoard and the files of the run folder."""
