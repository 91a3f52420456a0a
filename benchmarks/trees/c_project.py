"""A C project of many headers in many directories, the same each time; its program ends with 0 only if it computes right."""

import random
from pathlib import Path

COMPONENTS = 20
HEADERS = 200
SOURCES = 40
_INCLUDED_BY_HEADER = 3
_INCLUDED_BY_SOURCE = 12
_MASK = 0xFFFFFFFF
_SYSTEM_HEADERS = "#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n#include <string.h>\n"


def make(tree: Path) -> None:
    """include/NN/header_NNN.h, src/part_NN.c, src/main.c."""
    generator = random.Random(3)
    for component in range(COMPONENTS):
        (tree / "include" / f"{component:02}").mkdir(parents=True)
    (tree / "src").mkdir()
    factors = [generator.randrange(1, 1 << 32, 2) for _ in range(HEADERS)]
    for number, factor in enumerate(factors):
        path = tree / "include" / f"{number % COMPONENTS:02}" / _header_name(number)
        path.write_text(_header(generator, number, factor))
    parts = [generator.sample(range(HEADERS), _INCLUDED_BY_SOURCE) for _ in range(SOURCES)]
    for number, headers in enumerate(parts):
        (tree / "src" / f"part_{number:02}.c").write_text(_source(number, headers))
    (tree / "src" / "main.c").write_text(_main(_computed(factors, parts)))


def _header_name(number: int) -> str:
    return f"header_{number:03}.h"


def _header(generator: random.Random, number: int, factor: int) -> str:
    """A header has more to it than what is used: types, and words about them."""
    included = generator.sample(range(number), min(number, _INCLUDED_BY_HEADER))
    lines = [f"#ifndef HEADER_{number:03}", f"#define HEADER_{number:03}", _SYSTEM_HEADERS]
    lines += [f'#include "{_header_name(other)}"' for other in sorted(included)]
    lines += [_record(number, field) for field in range(generator.randrange(8, 32))]
    lines += [
        f"static inline uint32_t step_{number:03}(uint32_t x) {{ return (x + {number}u) * {factor}u; }}",
        "#endif",
    ]
    return "\n".join(lines) + "\n"


def _record(number: int, field: int) -> str:
    name = f"record_{number:03}_{field:02}"
    return (
        f"/* {name}: what a detector's cell {field} of layer {number} says, kept with its neighbours. */\n"
        f"struct {name} {{ uint32_t cell; double energy; struct {name} *next; char label[{8 + field}]; }};"
    )


def _source(number: int, headers: list[int]) -> str:
    lines = [f'#include "{_header_name(header)}"' for header in sorted(headers)]
    lines += [f"uint32_t part_{number:02}(uint32_t x) {{"]
    lines += [f"    x = step_{header:03}(x);" for header in headers]
    return "\n".join([*lines, "    return x;", "}"]) + "\n"


def _main(expected: int) -> str:
    declared = "\n".join(f"uint32_t part_{number:02}(uint32_t x);" for number in range(SOURCES))
    called = "\n".join(f"    x = part_{number:02}(x);" for number in range(SOURCES))
    return f"{_SYSTEM_HEADERS}{declared}\nint main(void) {{\n    uint32_t x = 1;\n{called}\n    return x != {expected}u;\n}}\n"


def _computed(factors: list[int], parts: list[list[int]]) -> int:
    """What the program computes, computed here."""
    x = 1
    for headers in parts:
        for header in headers:
            x = (x + header) * factors[header] & _MASK
    return x
