"""Tells why Linux says that the random generator of the processor fails, and what to do.

    scripts/run diagnose-rdrnd [--json]

Reads /proc, /sys and the kernel's log where they can be read; needs neither privileges nor anything
but Python, and runs in containers. A file that is not there is told and takes nothing else with it.
Exit code 0 if nothing is wrong, 1 if something is, 2 where there is no Linux on x86.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

Level = Literal["problem", "note", "fine", "unknown"]
_FLAGS: Final = ("rdrand", "rdseed", "hypervisor")
_OPTIONS: Final = re.compile(
    r"nordrand|rdrand=\S+|random\.trust_cpu=\S+|clearcpuid=\S+|random\.trust_bootloader=\S+"
)
_LOG: Final = re.compile(r"rdrand|rdseed|\brandom: |crng|hwrng|microcode", flags=re.IGNORECASE)
_N_LOG_LINES: Final = 20
_SAMPLE_BYTES: Final = 65536
# A chi-squared statistic of 255 degrees of freedom exceeds this once in a million samples: its
# normal approximation, mean 255 and standard deviation sqrt(510), at 4.75 standard deviations.
_MAX_CHI_SQUARED: Final = 255 + 4.75 * math.sqrt(510)
# Entropy that the kernel tells once it is initialised, from Linux 5.18 on: random(4).
_FULL_ENTROPY_BITS: Final = 256


@dataclass(frozen=True, slots=True)
class Facts:
    """What could be read; empty or None: it could not.

    Attributes
    ----------
    vendor, model_name, microcode : str
        Of the first processor.
    family, model, stepping : int or None
        Of the first processor, in the numbers that its vendor writes as hexadecimal.
    flags : mapping of str to bool
        Whether the kernel offers rdrand and rdseed, and whether this is a virtual machine.
    options : tuple of str
        Of the kernel's command line, those that matter here.
    entropy_bits : int or None
        What the kernel tells.
    generator : str
        The hardware generator that feeds the kernel, if any.
    srbds : str
        The kernel's word on "special register buffer data sampling", whose remedy slows rdrand.
    log : tuple of str
        Lines of the kernel's log that matter here, the latest.
    can_read_log : bool
        Whether the log could be read.
    chi_squared : float
        Of the bytes of a sample of os.urandom.
    """

    vendor: str
    model_name: str
    microcode: str
    family: int | None
    model: int | None
    stepping: int | None
    flags: Mapping[str, bool]
    options: tuple[str, ...]
    entropy_bits: int | None
    generator: str
    srbds: str
    log: tuple[str, ...]
    can_read_log: bool
    chi_squared: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """One thing that was looked at, what it means, and what to do."""

    level: Level
    what: str
    advice: str = ""


def read_facts(root: Path, log: str | None, sample: bytes) -> Facts:
    """Return what can be read.

    Parameters
    ----------
    root : Path
        Where /proc and /sys are.
    log : str or None
        The kernel's log, None where it may not be read.
    sample : bytes
        Of the kernel's random generator.
    """
    processor = _first_processor(_read(root / "proc/cpuinfo"))
    flags = processor.get("flags", "").split()
    entropy = _read(root / "proc/sys/kernel/random/entropy_avail").strip()
    lines = [line for line in (log or "").splitlines() if _LOG.search(line)]
    return Facts(
        vendor=processor.get("vendor_id", ""),
        model_name=processor.get("model name", ""),
        microcode=processor.get("microcode", ""),
        family=_number(processor.get("cpu family", "")),
        model=_number(processor.get("model", "")),
        stepping=_number(processor.get("stepping", "")),
        flags={flag: flag in flags for flag in _FLAGS} if flags else {},
        options=tuple(_OPTIONS.findall(_read(root / "proc/cmdline"))),
        entropy_bits=_number(entropy),
        generator=_read(root / "sys/class/misc/hw_random/rng_current").strip(),
        srbds=_read(root / "sys/devices/system/cpu/vulnerabilities/srbds").strip(),
        log=tuple(lines[-_N_LOG_LINES:]),
        can_read_log=log is not None,
        chi_squared=chi_squared(sample),
    )


def chi_squared(sample: bytes) -> float:
    """Return the chi-squared statistic of the bytes against equal frequencies; NaN for none.

    References
    ----------
    Knuth, "The Art of Computer Programming", volume 2, section 3.3.1.
    """
    if not sample:
        return math.nan
    expected = len(sample) / 256
    counts = Counter(sample)
    return sum((counts.get(byte, 0) - expected) ** 2 for byte in range(256)) / expected


def verdicts(facts: Facts) -> tuple[Verdict, ...]:
    """Return what the facts mean, the problems first."""
    found = [
        *_about_flags(facts),
        *_about_processor(facts),
        *_about_options(facts.options),
        *_about_log(facts),
        *_about_kernel(facts),
    ]
    order = ("problem", "note", "unknown", "fine")
    return tuple(sorted(found, key=lambda verdict: order.index(verdict.level)))


def _about_flags(facts: Facts) -> Iterator[Verdict]:
    if not facts.flags:
        yield Verdict("unknown", "/proc/cpuinfo tells no flags of the processor")
        return
    for flag in ("rdrand", "rdseed"):
        if facts.flags[flag]:
            yield Verdict("fine", f"the kernel offers {flag}")
        elif facts.flags["hypervisor"]:
            yield Verdict(
                "note",
                f"this virtual machine has no {flag}",
                "let the host pass it on (for QEMU: -cpu host), or give it a virtio-rng device",
            )
        else:
            yield Verdict(
                "note",
                f"there is no {flag}: the processor lacks it, or the kernel or the BIOS hides it",
                "the lines below may say which; Linux needs it only to start sooner",
            )


def _about_processor(facts: Facts) -> Iterator[Verdict]:
    """Yield what is known of families of AMD; Linux, arch/x86/kernel/cpu/amd.c and rdrand.c."""
    if facts.vendor != "AuthenticAMD" or facts.family is None:
        return
    has_rdrand, has_rdseed = (facts.flags.get(flag, False) for flag in ("rdrand", "rdseed"))
    if facts.family in {0x15, 0x16}:
        yield Verdict(
            "note" if not has_rdrand else "problem",
            f"AMD family {facts.family:x}h: many a BIOS loses rdrand when the machine wakes from "
            "sleep, which is why Linux from 5.3 on hides it",
            "leave it hidden; rdrand=force brings it back, only for machines that never sleep"
            if not has_rdrand
            else "update the kernel, or never let this machine sleep",
        )
    if facts.family == 0x17:
        yield Verdict(
            "note",
            "AMD family 17h: early firmware of Zen 2 answered rdrand with the same value always, "
            "also after waking from sleep",
            "update the BIOS (AGESA ComboAM4 1.0.0.3ABA or later) and the package amd64-microcode",
        )
        if (facts.model, facts.stepping) == (0x47, 0):
            yield Verdict("note", "rdseed of this model is broken; newer kernels hide it",
                          "update the kernel")  # fmt: skip
    if facts.family == 0x1A:
        yield Verdict(
            "problem" if has_rdseed and _is_told_broken(facts) else "note",
            "AMD family 1Ah (Zen 5): rdseed of 16 and 32 bits may answer 0 and call it random "
            "(AMD-SB-7055, CVE-2025-62626); Linux hides rdseed until the microcode is new enough",
            "update the BIOS or the microcode, and do not compile with -march=znver5 until then",
        )


def _is_told_broken(facts: Facts) -> bool:
    return any("RDSEED32 is broken" in line for line in facts.log)


def _about_options(options: Sequence[str]) -> Iterator[Verdict]:
    told = {
        "nordrand": "turns rdrand off; Linux 6.0 and later do not know it any more",
        "clearcpuid": "hides features of the processor from the kernel",
        "random.trust_cpu=0": "keeps the processor's generator from starting the kernel's",
        "random.trust_cpu=off": "keeps the processor's generator from starting the kernel's",
        "rdrand=force": "offers rdrand though the kernel holds it for broken",
    }
    for option in options:
        for start, meaning in told.items():
            if option.startswith(start):
                yield Verdict("note", f"the kernel was started with {option}: it {meaning}",
                              "remove it from the boot loader unless it is wanted")  # fmt: skip


def _about_log(facts: Facts) -> Iterator[Verdict]:
    if not facts.can_read_log:
        yield Verdict("unknown", "the kernel's log may not be read here",
                      "as root, or outside of the container: dmesg | grep -i rd")  # fmt: skip
        return
    known = {
        "RDRAND is not reliable": (
            "problem",
            "the kernel tried rdrand at the start, saw it repeat itself, and turned it off",
            "update the BIOS and the microcode: programs that call rdrand themselves are not safe",
        ),
        "funky smelling": (
            "problem",
            "the kernel saw rdrand repeat itself, and goes on using it",
            "update the BIOS and the microcode, and the kernel to 5.19 or later",
        ),
        "RDSEED is not reliable": (
            "problem",
            "the kernel turned rdseed off, as it does for a model whose rdseed is broken",
            "nothing is lost: the kernel has other sources",
        ),
        "RDSEED32 is broken": (
            "problem",
            "the kernel turned rdseed off, because this microcode answers wrongly",
            "update the BIOS or the microcode",
        ),
        "BIOS may not properly restore RDRAND": (
            "note",
            "the kernel hides rdrand, because the BIOS may lose it when the machine wakes",
            "nothing is lost; rdrand=force brings it back for machines that never sleep",
        ),
    }
    text = "\n".join(facts.log)
    for said, (level, what, advice) in known.items():
        if said in text:
            yield Verdict("problem" if level == "problem" else "note", what, advice)
    if not any(said in text for said in known):
        yield Verdict("fine", "the kernel's log has no complaint about rdrand or rdseed")


def _about_kernel(facts: Facts) -> Iterator[Verdict]:
    bits = facts.entropy_bits
    if bits is None:
        yield Verdict("unknown", "the kernel does not tell its entropy")
    elif bits < _FULL_ENTROPY_BITS:
        yield Verdict(
            "note",
            f"the kernel tells {bits} bits of entropy",
            f"from Linux 5.18 on fewer than {_FULL_ENTROPY_BITS} mean that it is not initialised "
            "yet; older ones spend it, which does not matter",
        )
    else:
        yield Verdict("fine", f"the kernel's generator is initialised ({bits} bits)")
    if facts.srbds.startswith("Vulnerable"):
        yield Verdict("note", "other programs can see what rdrand returned (SRBDS)",
                      "update the microcode")  # fmt: skip
    if facts.chi_squared > _MAX_CHI_SQUARED:
        yield Verdict("problem", "bytes of os.urandom are not equally frequent",
                      "run it again: by chance that happens once in a million times")  # fmt: skip
    elif math.isfinite(facts.chi_squared):
        yield Verdict("fine", "bytes of os.urandom are equally frequent, which proves little")


def page(facts: Facts, found: Sequence[Verdict]) -> str:
    """Return everything as text."""
    identity = "/".join("?" if n is None else f"{n:x}h"
                        for n in (facts.family, facts.model, facts.stepping))  # fmt: skip
    lines = [
        f"processor    {facts.model_name or 'unknown'} ({facts.vendor or 'unknown'}, {identity})",
        f"microcode    {facts.microcode or 'not told'}",
        f"flags        {_flags_text(facts.flags)}",
        f"options      {' '.join(facts.options) or 'none that matter here'}",
        f"generator    {facts.generator or 'none beside the processor'}",
        *(f"log          {line}" for line in facts.log),
        "",
    ]
    for verdict in found:
        lines.append(f"{verdict.level}: {verdict.what}")
        if verdict.advice:
            lines.append(f"  {verdict.advice}")
    return "\n".join(lines)


def _flags_text(flags: Mapping[str, bool]) -> str:
    return ", ".join(f"{name} {'yes' if has else 'no'}" for name, has in flags.items()) or "unknown"


def kernel_log() -> str | None:
    """Return the kernel's log, None where it may not be read."""
    program = shutil.which("dmesg")
    if program is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - a program of the system without arguments
            [program], capture_output=True, text=True, check=False, timeout=10, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _first_processor(text: str) -> dict[str, str]:
    block = text.strip().split("\n\n")[0]
    pairs = (line.partition(":") for line in block.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None


def main(argv: Sequence[str] | None = None) -> int:
    """Print what was found, and return whether something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.add_argument("--root", type=Path, default=Path("/"), help="where /proc and /sys are")
    args = parser.parse_args(argv)
    facts = read_facts(args.root, kernel_log(), os.urandom(_SAMPLE_BYTES))
    if not facts.vendor:
        print("diagnose-rdrnd: this is no Linux on an x86 processor, or /proc/cpuinfo cannot be "
              "read; there is no rdrand to diagnose", file=sys.stderr)  # fmt: skip
        return 2
    found = verdicts(facts)
    if args.json:
        content = {"facts": asdict(facts), "verdicts": [asdict(verdict) for verdict in found]}
        print(json.dumps(content, indent=1))
    else:
        print(page(facts, found))
    return int(any(verdict.level == "problem" for verdict in found))


if __name__ == "__main__":
    sys.exit(main())
