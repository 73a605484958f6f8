"""Extended XYZ, frame by frame, with errors that name the file, the frame and the line.

ASE parses each frame; what is found here first is what ASE passes over in silence or reports without a place:
blank lines between frames (ASE drops the rest of the file), counts that do not match, missing columns,
truncation.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from macekit.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms

FULL_STRESS = "macekit_full_stress"
"""Key in `info` of an asymmetric stress that ASE would reduce to six components."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as ASE sees it."""

    atoms: Atoms
    index: int
    """Position in the file, from 0, counting every frame."""
    source: str
    """"train.extxyz frame 12"."""
    assumed_periodic: bool = False
    """Whether there is a Lattice and no pbc."""


@dataclass(frozen=True, slots=True)
class Block:
    """Lines of one frame."""

    index: int
    line: int
    """Number of the line with the count, from 1."""
    lines: list[str]
    """Count, comment, atoms."""


def frames_of_text(text: str, name: str, *, first_index: int = 0, first_line: int = 0) -> Iterator[Frame | DataError]:
    """Every frame of a text, or in its place the error that says what is wrong with it.

    Args:
        text: Contents of the file; any line endings.
        name: File name for messages.
        first_index: Position in the file of the first frame, where the text is a part of it.
        first_line: Lines of the file before the text.
    """
    for item in split_blocks(text, name, first_index=first_index, first_line=first_line):
        if isinstance(item, DataError):
            yield item
            continue
        try:
            yield _parse(item, name)
        except DataError as error:
            yield error


def split_blocks(text: str, name: str, *, first_index: int = 0, first_line: int = 0) -> Iterator[Block | DataError]:
    """Cut a text into frames. Blank lines between frames are passed over; nothing else is.

    After an error, cutting continues at the next line that looks like the count of a frame.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    position, index = 0, first_index
    while True:
        while position < len(lines) and not lines[position].strip():
            position += 1
        if position == len(lines):
            return
        end, error = _end_of_block(lines, position, f"{name} frame {index}", first_line)
        if error is None:
            yield Block(index, first_line + position + 1, lines[position:end])
        else:
            yield error
        index += 1
        position = end


def _end_of_block(lines: list[str], start: int, where: str, offset: int) -> tuple[int, DataError | None]:
    """Index of the line after the frame that starts at `start`, and what is wrong with the frame."""
    header = lines[start].strip()
    if not _is_count(header):
        return _next_header(lines, start + 1), DataError(
            f"{where} (line {offset + start + 1}): expected the number of atoms, found {_short(header)}",
            "every frame starts with a line that holds its number of atoms and nothing else",
        )
    count = int(header)
    first = start + 2
    for row in range(first, first + count):
        at_end = row >= len(lines) or (row == len(lines) - 1 and not lines[row].strip())
        if at_end:
            return len(lines), DataError(
                f"{where} (line {offset + start + 1}): the file ends after {max(row - first, 0)} of {count} atoms; "
                "it is truncated",
                "write the file again, or delete the last frame",
            )
        tokens = lines[row].split()
        if len(tokens) < 4 and (not tokens or (len(tokens) == 1 and _is_count(tokens[0]))):
            found = "a blank line" if not tokens else f"{_short(lines[row].strip())}, which starts another frame,"
            return row, DataError(
                f"{where} (line {offset + start + 1}): declares {count} atoms but has {row - first}; {found} is in "
                f"line {offset + row + 1}",
                "correct the count in the first line of the frame",
            )
    end = first + count
    while end < min(len(lines), first + count + 3) and lines[end].lstrip().startswith("VEC"):
        end += 1
    if end < len(lines) and len(lines[end].split()) >= 4:
        return _next_header(lines, end), DataError(
            f"{where} (line {offset + start + 1}): declares {count} atoms but another atom line follows in line "
            f"{offset + end + 1}: {_short(lines[end])}",
            "correct the count in the first line of the frame",
        )
    return min(end, len(lines)), None


def _next_header(lines: list[str], start: int) -> int:
    """The next line that holds a whole number and nothing else."""
    return next((i for i in range(start, len(lines)) if _is_count(lines[i].strip())), len(lines))


def _parse(block: Block, name: str) -> Frame:
    """One frame through ASE's parser."""
    from ase.io.extxyz import read_xyz

    source = f"{name} frame {block.index}"
    parsed: list[dict[str, Any]] = []

    def comment_parser(line: str) -> dict[str, Any]:
        info = _parse_comment(line)
        parsed.append(dict(info))
        return info

    if int(block.lines[0]) == 0:
        from ase import Atoms

        return Frame(atoms=Atoms(), index=block.index, source=source)
    try:
        _check_columns(block, source)
        text = "\n".join([block.lines[0].strip(), *block.lines[1:], ""])
        (atoms,) = read_xyz(io.StringIO(text), index=slice(None), properties_parser=comment_parser)
    except DataError:
        raise
    except Exception as error:  # ASE lets errors of numpy and of Python through
        raise _diagnosis(block, source, error) from None
    first = parsed[0] if parsed else {}
    return Frame(
        atoms=atoms,
        index=block.index,
        source=source,
        assumed_periodic="Lattice" in first and "pbc" not in first,
    )


def _parse_comment(line: str) -> dict[str, Any]:
    """Key-value pairs of the comment line; also a stress or virial of six values, which ASE refuses."""
    from ase.io.extxyz import key_val_str_to_dict

    parse: Callable[[str], dict[str, Any]] = key_val_str_to_dict
    try:
        info = parse(line)
    except ValueError:
        renamed = re.sub(r"(^|\s)(stress|virial)(?=\s*=)", r"\1macekit_\2", line)
        info = parse(renamed)
        for key in ("stress", "virial"):
            if f"macekit_{key}" in info:
                info[key] = info.pop(f"macekit_{key}")
    stress = info.get("stress")
    if stress is not None and not isinstance(stress, np.ndarray):
        raise ValueError(f"stress={stress!r} is not 6 or 9 numbers")
    if stress is not None and stress.shape == (3, 3) and not np.allclose(stress, stress.T, rtol=1e-9, atol=0.0):
        info[FULL_STRESS] = stress
    return info


def _columns(comment: str) -> list[tuple[str, str]] | None:
    """Name and type of every column by `Properties`, or None where it is not given."""
    match = re.search(r"(?:^|\s)Properties\s*=\s*[\"']?([^\s\"']+)", comment)
    if match is None:
        return None
    fields = match.group(1).split(":")
    try:
        triplets = [(n, t, int(c)) for n, t, c in zip(fields[::3], fields[1::3], fields[2::3], strict=True)]
    except ValueError:
        raise ValueError(f"Properties={match.group(1)} is not a list of name:type:columns") from None
    return [(name, kind) for name, kind, count in triplets for _ in range(count)]


def _check_columns(block: Block, source: str) -> None:
    """Every atom line has the columns that `Properties` declares."""
    columns = _columns(block.lines[1])
    expected = 4 if columns is None else len(columns)
    for row, line in enumerate(block.lines[2 : 2 + int(block.lines[0])]):
        found = len(line.split())
        if found < expected or (columns is not None and found > expected):
            declared = "at least 4" if columns is None else f"{expected} (Properties)"
            raise DataError(
                f"{source} (line {block.line + 2 + row}): atom {row} has {found} columns, expected "
                f"{declared}: {_short(line)}",
                "the line may be cut off, or numbers may have run together; write the frame again",
            )


def _diagnosis(block: Block, source: str, error: Exception) -> DataError:
    """The first value that is not what its column says, or else ASE's message."""
    from ase.data import atomic_numbers

    try:
        columns = _columns(block.lines[1]) or [("species", "S"), *[("pos", "R")] * 3]
    except ValueError as problem:
        return DataError(f"{source} (line {block.line + 1}): {problem}", "correct the comment line")
    for row, line in enumerate(block.lines[2 : 2 + int(block.lines[0])]):
        where = f"{source} (line {block.line + 2 + row}): atom {row}"
        for (name, kind), token in zip(columns, line.split(), strict=False):
            if name == "species" and token.capitalize() not in atomic_numbers:
                return DataError(f"{where}: '{token}' is not a chemical element", "use symbols such as H, C, Si")
            if kind in "RI" and not _is_number(token, kind):
                expected = "a number" if kind == "R" else "a whole number"
                return DataError(f"{where}: column {name} is '{token}', expected {expected}", _number_hint(token))
    return DataError(
        f"{source} (line {block.line + 1}): the comment line cannot be parsed ({error or type(error).__name__})",
        "expected key=value pairs, values with spaces in quotes",
    )


def _is_number(token: str, kind: str) -> bool:
    try:
        float(token) if kind == "R" else int(token)
    except ValueError:
        return False
    return True


def _number_hint(token: str) -> str:
    """What to do about a number that is written as another program writes it."""
    if "*" in token:
        return "the number did not fit the width of its field when it was written; write it with more digits"
    if re.fullmatch(r"[-+]?\d*\.?\d*[dD][-+]?\d+", token):
        return "Fortran exponents: replace D by E"
    if re.fullmatch(r"[-+]?\d+,\d+", token):
        return "decimal comma: replace it by a point"
    return "repair the line, or leave the frame out"


def _short(line: str) -> str:
    text = " ".join(line.split())
    return f"'{text if len(text) <= 40 else text[:37] + '...'}'"


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit()
