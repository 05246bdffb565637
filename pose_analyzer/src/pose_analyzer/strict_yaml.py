"""YAML read without surprises: a key that is there twice is an error, not the last one's value."""

from __future__ import annotations

from pathlib import Path

import yaml

from pose_analyzer.errors import ExerciseError, UnknownExerciseError


def read_yaml(path: Path) -> object:
    """Return what an exercise file holds, as plain values.

    Raises
    ------
    UnknownExerciseError
        If there is no such file.
    ExerciseError
        If it cannot be read, is no YAML, or says a key twice; the message names file and line.
    """
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except FileNotFoundError as exc:
        raise UnknownExerciseError(f"there is no exercise file {path}") from exc
    except OSError as exc:
        raise ExerciseError(f"{path}: cannot be read: {exc.strerror}") from exc
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark
        place = f" in line {mark.line + 1}" if mark is not None else ""
        raise ExerciseError(f"{path}: not valid YAML{place}: {exc.problem}") from exc
    except (yaml.YAMLError, ValueError) as exc:
        # A date that does not exist is a bare ValueError.
        raise ExerciseError(f"{path}: not valid YAML: {str(exc).splitlines()[0]}") from exc


class _Loader(yaml.SafeLoader):
    """Plain values only, and each key of a mapping once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {key.value!r} is there twice, first in line "
                    f"{lines[key.value]}; keep one",
                    problem_mark=key.start_mark,
                )
            lines[key.value] = line
        return super().construct_mapping(node, deep)
