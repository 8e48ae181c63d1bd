"""The spine of a training: its loop, directory, checkpoints, devices and signals."""
