from __future__ import annotations

import json
import math
from pathlib import Path

import diagnose_rdrnd
import pytest
from diagnose_rdrnd import Facts, Verdict, chi_squared, main, read_facts, verdicts

SAMPLE = bytes(range(256)) * 4


def machine(
    root: Path,
    *,
    vendor: str = "AuthenticAMD",
    family: int = 0x19,
    model: int = 0x21,
    flags: str = "fpu rdrand rdseed",
    cmdline: str = "quiet",
    entropy: int = 256,
) -> Path:
    """Write the files of a machine."""
    files = {
        "proc/cpuinfo": f"processor : 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\n"
        f"model\t\t: {model}\nmodel name\t: Some CPU\nstepping\t: 0\nmicrocode\t: 0xa20\n"
        f"flags\t\t: {flags}\n\nprocessor : 1\nvendor_id : other\n",
        "proc/cmdline": f"BOOT_IMAGE=/vmlinuz root=/dev/secret {cmdline}\n",
        "proc/sys/kernel/random/entropy_avail": f"{entropy}\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def problems(facts: Facts) -> list[Verdict]:
    return [verdict for verdict in verdicts(facts) if verdict.level == "problem"]


def test_a_healthy_machine_has_no_problem_and_keeps_its_command_line(tmp_path: Path) -> None:
    facts = read_facts(machine(tmp_path), "random: crng init done\n", SAMPLE)
    assert (facts.family, facts.model, facts.stepping) == (0x19, 0x21, 0)
    assert problems(facts) == []
    assert "secret" not in str(facts)


def test_nothing_to_read_is_unknown_and_no_error(tmp_path: Path) -> None:
    facts = read_facts(tmp_path, None, b"")
    assert {verdict.level for verdict in verdicts(facts)} == {"unknown"}
    assert math.isnan(facts.chi_squared)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("x86/cpu: RDRAND is not reliable on this platform; disabling.", "turned it off"),
        ("RDRAND gives funky smelling output, might consider not using it", "repeat itself"),
        ("RDSEED32 is broken. Disabling the corresponding CPUID bit.", "this microcode"),
        ("RDSEED is not reliable on this platform; disabling.", "whose rdseed is broken"),
    ],
)
def test_what_the_kernel_complains_of_is_a_problem(tmp_path: Path, line: str, said: str) -> None:
    facts = read_facts(machine(tmp_path), f"[0.1] ACPI: x\n[0.2] {line}\n", SAMPLE)
    assert facts.log == (f"[0.2] {line}",)
    assert [said in verdict.what for verdict in problems(facts)] == [True]


@pytest.mark.parametrize("family", [0x15, 0x16])
def test_amd_families_that_lose_rdrand_on_waking(tmp_path: Path, family: int) -> None:
    hidden = read_facts(machine(tmp_path, family=family, flags="fpu"), "", SAMPLE)
    shown = read_facts(machine(tmp_path, family=family), "", SAMPLE)
    assert problems(hidden) == []
    assert any("wakes" in verdict.what for verdict in verdicts(hidden))
    assert len(problems(shown)) == 1


def test_zen_2_and_zen_5_are_told_what_to_update(tmp_path: Path) -> None:
    old = read_facts(machine(tmp_path, family=0x17, model=0x47), "", SAMPLE)
    assert any("AGESA" in verdict.advice for verdict in verdicts(old))
    assert any("rdseed of this model" in verdict.what for verdict in verdicts(old))
    new = read_facts(machine(tmp_path, family=0x1A), "", SAMPLE)
    assert any("CVE-2025-62626" in verdict.what for verdict in verdicts(new))


def test_a_virtual_machine_without_rdrand_is_told_how_to_get_it(tmp_path: Path) -> None:
    facts = read_facts(machine(tmp_path, flags="fpu hypervisor"), "", SAMPLE)
    assert sum("virtio-rng" in verdict.advice for verdict in verdicts(facts)) == 2


@pytest.mark.parametrize("option", ["nordrand", "random.trust_cpu=off", "rdrand=force"])
def test_options_of_the_kernel_are_told(tmp_path: Path, option: str) -> None:
    facts = read_facts(machine(tmp_path, cmdline=option), "", SAMPLE)
    assert facts.options == (option,)
    assert any(option in verdict.what for verdict in verdicts(facts))


def test_little_entropy_and_unequal_bytes_are_told(tmp_path: Path) -> None:
    facts = read_facts(machine(tmp_path, entropy=12), "", bytes(4096))
    told = " ".join(verdict.what for verdict in verdicts(facts))
    assert "12 bits" in told
    assert "not equally frequent" in problems(facts)[0].what


def test_chi_squared_is_0_for_equal_counts() -> None:
    assert chi_squared(SAMPLE) == 0
    assert chi_squared(bytes(256)) == pytest.approx(255 * 256)


def test_exit_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(diagnose_rdrnd, "kernel_log", lambda: "RDRAND is not reliable\n")
    assert main(["--root", str(tmp_path)]) == 2
    machine(tmp_path)
    assert main(["--root", str(tmp_path)]) == 1
    assert "turned it off" in capsys.readouterr().out
    monkeypatch.setattr(diagnose_rdrnd, "kernel_log", lambda: "")
    assert main(["--root", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["facts"]["microcode"] == "0xa20"
