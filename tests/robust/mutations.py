"""Changes of a file that make it a broken one: bytes, numbers, lines, lengths."""

from __future__ import annotations

import random
import re

NUMBERS = (
    b"nan",
    b"inf",
    b"-inf",
    b"1e308",
    b"-1e308",
    b"1e999",
    b"-1",
    b"0",
    b"2147483648",
    b"4294967295",
    b"9" * 400,
    b"1e-320",
    b"",
)
_NUMBER = re.compile(rb"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?")
_WORDS = (
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\r",
    b"=",
    b"[",
    b"{",
    b'"',
    b"<",
    b"&",
    b"_",
    b"loop_\n",
    b"\xc2\xb2",
    b"\x1b[31m",
)
_BINARY = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\1\0\0\0")


def mutated(sample: bytes, chance: random.Random) -> bytes:
    """Return a sample with one to four changes."""
    text = bytearray(sample)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        chance.choice(_CHANGES)(text, chance)
    return bytes(text)


def _place(text: bytearray, chance: random.Random) -> int:
    return chance.randrange(len(text) + 1)


def _flip(text: bytearray, chance: random.Random) -> None:
    if text:
        text[chance.randrange(len(text))] ^= 1 << chance.randrange(8)


def _insert(text: bytearray, chance: random.Random) -> None:
    place = _place(text, chance)
    text[place:place] = chance.choice((*_WORDS, *_BINARY, *NUMBERS, bytes([chance.randrange(256)])))


def _overwrite(text: bytearray, chance: random.Random) -> None:
    place = _place(text, chance) & ~3
    text[place : place + 4] = chance.choice(_BINARY)


def _delete(text: bytearray, chance: random.Random) -> None:
    place = _place(text, chance)
    del text[place : place + chance.choice((1, 2, 8, 80))]


def _repeat(text: bytearray, chance: random.Random) -> None:
    begin = _place(text, chance)
    piece = bytes(text[begin : begin + chance.choice((1, 8, 80))])
    text[begin:begin] = piece * chance.choice((1, 2, 100))


def _number(text: bytearray, chance: random.Random) -> None:
    found = list(_NUMBER.finditer(text))
    if found:
        each = chance.choice(found)
        text[each.start() : each.end()] = chance.choice(NUMBERS)


def _line(text: bytearray, chance: random.Random) -> None:
    lines = text.split(b"\n")
    first, second = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]
    if chance.random() < 0.5:
        del lines[first]
    text[:] = b"\n".join(lines)


def _cut(text: bytearray, chance: random.Random) -> None:
    del text[_place(text, chance) :]


def _blanks(text: bytearray, chance: random.Random) -> None:
    place = _place(text, chance)
    text[place:place] = chance.choice((b" ", b"\t", b"\n", b"[", b"(", b"9")) * chance.choice((100, 5000))


_CHANGES = (_flip, _insert, _overwrite, _delete, _repeat, _number, _number, _line, _cut, _blanks)
