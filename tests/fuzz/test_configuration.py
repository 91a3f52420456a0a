"""Any text at all as a configuration: values, or one line that names the place; nothing else, and it comes to an end."""

import re

from hypothesis import given
from hypothesis import strategies as st

from cvfs.client.settings import parse_configuration
from cvfs.client.settings.expansion import LONGEST_VALUE
from cvfs.errors import UsageError

PIECES = (
    *(
        "if",
        "then",
        "elif",
        "else",
        "fi",
        "case",
        "in",
        "esac",
        "!",
        "[",
        "]",
        "return",
        ".",
        "export",
        "grep -q",
        "x",
        "A=1",
    ),
    *(
        "A=$A$A",
        '"',
        "'",
        "\\",
        "\n",
        ";",
        ";;",
        "&&",
        "||",
        "|",
        "&",
        "(",
        ")",
        "<",
        ">",
        ">/dev/null",
        "#",
        " ",
        "$",
        "${",
    ),
    *(
        "}",
        "$(",
        "$((",
        "))",
        "`",
        ":-",
        "=",
        "-n",
        "-lt",
        "~/",
        "*",
        "A",
        "$A",
        "${A:-b}",
        "\0",
        "\r",
        "é",
        "1",
        "%",
        "/",
    ),
)


@given(
    st.lists(st.sampled_from(PIECES), max_size=60).map(" ".join)
    | st.lists(st.sampled_from(PIECES), max_size=60).map("".join)
)
def test_any_text_is_read_or_refused_with_its_place(text):
    values, refusal = outcome(text)
    assert not refusal or re.match(r"f:\d+: ", refusal)
    assert all(len(value) <= LONGEST_VALUE for value in values.values())


def outcome(text: str) -> tuple[dict[str, str], str]:
    try:
        return parse_configuration(text, "f"), ""
    except UsageError as error:
        return {}, str(error)


@given(st.text(max_size=200))
def test_any_value_survives_quotes(text):
    quoted = "'" + text.replace("'", "'\\''") + "'"
    assert parse_configuration(f"A={quoted}\n", "f") == {"A": text}
