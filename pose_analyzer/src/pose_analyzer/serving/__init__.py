"""Live scheduling: which frame of which stream goes to the detector, and when."""
