"""The exceptions of `pose_analyzer`, one tree.

::

    PoseAnalyzerError
    ├── VideoError            a file, camera or stream cannot be read
    │   ├── NoVideoError      what is there is no video
    │   └── VideoWriteError   an output file cannot be written
    ├── DetectorError         a pose detector cannot be made or run
    │   ├── WeightsMissingError    its weights are not here and cannot be fetched
    │   ├── UnknownNetworkError    the batched engine does not know such a network
    │   ├── DependencyMissingError its library is not installed
    │   └── ExportError            its weights cannot be exported, or lost too much by it
    ├── ExerciseError         an exercise file is not valid
    │   └── UnknownExerciseError   no exercise of that name
    ├── ReferencesError       reference motions are missing or too few
    ├── CapacityError         no room for another live stream
    ├── VramError             the memory of a GPU cannot be read
    ├── StreamError           a live stream cannot go on
    │   ├── StreamClosedError      it is not open, or no longer
    │   └── StreamIdleError        it sent nothing for too long
    └── SpeechError           no engine can speak a cue

A wrong *argument* raises `ValueError` or `TypeError`; these say that the *world* is not as needed.
The text of each is one sentence for a person, with what to do next. The command line prints it
and exits with code 2.
"""

from __future__ import annotations


class PoseAnalyzerError(Exception):
    """Base of everything that this package raises about the outside world."""


class VideoError(PoseAnalyzerError):
    """A video cannot be opened, or holds no frame."""


class NoVideoError(VideoError):
    """What is there is no video, or nothing is there; trying again does not help."""


class VideoWriteError(VideoError):
    """An output file cannot be written."""


class DetectorError(PoseAnalyzerError):
    """A pose detector cannot be made or run."""


class WeightsMissingError(DetectorError):
    """The weights of a detector are not here and could not be fetched."""


class UnknownNetworkError(DetectorError):
    """The weights are of a network that the batched engine does not know; others may run it."""


class DependencyMissingError(DetectorError):
    """An optional library is not installed; the message names the extra that brings it."""


class ExportError(DetectorError):
    """Weights cannot be exported, or the export lost too much; the message says what to do."""


class ExerciseError(PoseAnalyzerError):
    """An exercise file is not valid; the message names file, key and allowed values."""


class UnknownExerciseError(ExerciseError):
    """No exercise has that name; the message lists those that exist."""


class ReferencesError(PoseAnalyzerError):
    """Reference motions are missing, unreadable or too few."""


class CapacityError(PoseAnalyzerError):
    """Another live stream would be one too many; the message says what to do about it."""


class VramError(PoseAnalyzerError):
    """How full the memory of a GPU is cannot be read; serving goes on without."""


class StreamError(PoseAnalyzerError):
    """A live stream cannot go on; the others do."""


class StreamClosedError(StreamError):
    """A live stream is not open, or no longer."""


class StreamIdleError(StreamError):
    """A live stream sent nothing for so long that it was closed."""


class SpeechError(PoseAnalyzerError):
    """No engine is here that can speak, or it failed; the message says what to install."""
