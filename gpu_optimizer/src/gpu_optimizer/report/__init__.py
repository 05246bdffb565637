"""A memory profile in files: one HTML page, JSON, SQLite."""

from __future__ import annotations

from gpu_optimizer.report.html_page import html_page
from gpu_optimizer.report.profile_json import profile_json
from gpu_optimizer.report.profile_sqlite import write_sqlite
from gpu_optimizer.report.profile_text import profile_text

__all__ = ["html_page", "profile_json", "profile_text", "write_sqlite"]
