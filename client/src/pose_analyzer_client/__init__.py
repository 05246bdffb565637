"""A thin client of the services of `pose_analyzer` and `gpu_optimizer`."""

__version__ = "0.1.0"
