"""The command ``gpu-optimizer doctor``: what this machine is, and what to mend."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from gpu_optimizer.cli_parts import EXIT_DOES_NOT_FIT, Commands
from gpu_optimizer.doctor import Facts, Finding, examine, findings
from gpu_optimizer.units import format_bytes


def add_command(commands: Commands) -> None:
    """Add the command to the parser."""
    command = commands.add_parser("doctor", help="tell what this machine is and what to mend")
    command.set_defaults(run=run)
    command.add_argument("--json", action="store_true", help="print it as JSON")


def run(args: argparse.Namespace) -> int:
    """Print facts and findings; return 0, or 1 if there is an error among them."""
    facts = examine()
    found = findings(facts)
    if args.json:
        content = {"facts": asdict(facts), "findings": [asdict(finding) for finding in found]}
        print(json.dumps(content, indent=1))
    else:
        print(_page(facts, found))
    return EXIT_DOES_NOT_FIT if any(finding.level == "error" for finding in found) else 0


def _page(facts: Facts, found: tuple[Finding, ...]) -> str:
    cards = [f"{name}, {format_bytes(size)}" for name, size in facts.cards]
    rows = [
        ("python", f"{facts.python}, {facts.system}"),
        ("torch", facts.torch_version),
        ("CUDA", facts.cuda_version or "built without"),
        ("cuDNN", facts.cudnn_version or "none"),
        ("driver", facts.driver_version or "none answers"),
        ("GPU", "; ".join(cards) or "none"),
        ("NVML", "answers" if facts.has_nvml else "cannot be asked"),
        ("allocator", _set(facts, "PYTORCH") or "its defaults"),
        ("CUDA settings", _set(facts, "CU") or "the defaults"),
        ("libraries", _list(facts.libraries)),
        ("processor", _list(facts.cpu_flags)),
    ]
    lines = [f"{name:<14} {value}" for name, value in rows]
    lines += [f"\n{finding.level}: {finding.what}\n  {finding.advice}" for finding in found]
    return "\n".join(lines if found else [*lines, "\nnothing to mend"])


def _set(facts: Facts, start: str) -> str:
    chosen = {name: text for name, text in facts.variables.items() if name.startswith(start)}
    return ", ".join(f"{name}={text}" for name, text in chosen.items())


def _list(entries: object) -> str:
    names = dict(entries) if isinstance(entries, dict) else {}
    return ", ".join(f"{name} {'yes' if there else 'no'}" for name, there in names.items())
