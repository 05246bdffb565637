"""What an analysis leaves behind: annotated video, HTML report, tables, OpenSim motion."""
