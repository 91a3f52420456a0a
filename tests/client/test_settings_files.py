"""Configuration files: what is understood without a shell, and that the rest is named with file and line."""

import os
import shutil
import subprocess

import pytest

from cvfs.client.settings import parse_configuration
from cvfs.client.settings.files import read_files
from cvfs.client.settings.places import LARGEST_FILE, Places, files_named
from cvfs.client.settings.script import Script, Value
from cvfs.errors import UsageError


def values_of(text: str, fixed=None, environment=None) -> dict[str, str]:
    script = Script(Places("/etc/cvmfs"), {n: Value(v, "-o", 0) for n, v in (fixed or {}).items()}, environment or {})
    script.run(text, "f")
    return {name: value.text for name, value in script.values.items()}


ASSIGNMENTS = [
    ("A=b", {"A": "b"}),
    ("  export A=b ", {"A": "b"}),
    ("export A=b C=d", {"A": "b", "C": "d"}),
    ("export A", {}),
    ("readonly A=b", {"A": "b"}),
    ("A='b c'", {"A": "b c"}),
    ('A="b # c" # d', {"A": "b # c"}),
    ("A=b # c", {"A": "b"}),
    ("A=b#c", {"A": "b#c"}),
    ("A=", {"A": ""}),
    ('A=""', {"A": ""}),
    ("A=x=y", {"A": "x=y"}),
    ("# A=b", {}),
    ("", {}),
    ("A=1\nA=2\n", {"A": "2"}),
    ("A=1; B=2 ;C=3", {"A": "1", "B": "2", "C": "3"}),
    ("A=1 B=2", {"A": "1", "B": "2"}),
    ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
    ("A=\"a\"'b c'd", {"A": "ab cd"}),
    (r"A=a\ b", {"A": "a b"}),
    (r'A="a\"b\\c\$d\e"', {"A": r'a"b\c$d\e'}),
    (r"A='a\'", {"A": "a\\"}),
    ("A=one\\\ntwo", {"A": "onetwo"}),
    ('A="one\\\ntwo"', {"A": "onetwo"}),
    ('A="one\ntwo"', {"A": "one\ntwo"}),
    ("A=1 \\\n  B=2", {"A": "1", "B": "2"}),
    ("A=http://s/@fqrn@;B=x", {"A": "http://s/@fqrn@", "B": "x"}),
    ('A="http://s/@fqrn@;http://t/@org@"', {"A": "http://s/@fqrn@;http://t/@org@"}),
    ("A=x*", {"A": "x*"}),
    ("unset A", {}),
    ("A=1\nunset A", {}),
    (":", {}),
    ("echo 'careful: nothing' >&2", {}),
    ("A=1 # end", {"A": "1"}),
]


@pytest.mark.parametrize(("text", "expected"), ASSIGNMENTS)
def test_assignments(text, expected):
    assert parse_configuration(text, "f") == expected


CHOICES = [
    ("if [ a = b ]\nthen\n  A=1\nelif [ a = a ]; then A=2\nelse A=3\nfi", "2"),
    ("if [ a = b ]; then A=1; elif [ b = c ]; then A=2; else A=3; fi", "3"),
    ("A=0; if [ a = b ]; then A=1; fi", "0"),
    ("if [ a = a ]; then if [ b = b ]; then A=1; fi; fi", "1"),
    ("if [ a = a ];\nthen\n  :\nelse\n  A=2\nfi; A=${A:-none}", "none"),
    ("A=1; [ a = b ] && A=2", "1"),
    ("[ a = b ] || A=2", "2"),
    ("case b in a) A=1 ;; b|c) A=2 ;; *) A=3 ;; esac", "2"),
    ('case "$H" in\n  node*)\n    A=1\n    ;;\n  *) A=2\nesac', "1"),
    ("case x in a) A=1;; esac; A=${A:-none}", "none"),
    ("A=1; return; A=2", "1"),
    ("A=1\nif [ a = a ]; then return 0; fi\nA=2", "1"),
]


EXPANSIONS = [
    ('A="$B"', "b"),
    ("A=$B$B", "bb"),
    ('A="${B}ar"', "bar"),
    ("A='$B'", "$B"),
    (r'A="\$B"', "$B"),
    ('A="$NOTHING"', ""),
    ('A="${NOTHING:-else}"', "else"),
    ("A=${NOTHING:-a b}", "a b"),
    ('A="${NOTHING:-${B}x}"', "bx"),
    ('A="x${NOTHING:-"a $B"}y"', "xa by"),
    ('A="${NOTHING:-it\'s}"', "it's"),
    ('A="${EMPTY-else}"', ""),
    ('A="${EMPTY:-else}"', "else"),
    ('A="${B:+there}"', "there"),
    ('A="${EMPTY:+there}"', ""),
    ('A="${EMPTY+there}"', "there"),
    ('A="$HOME"', "/home/me"),
    ("A=~/x", "/home/me/x"),
    ('A="~/x"', "~/x"),
    ("A=x~/y", "x~/y"),
    ("A=$", "$"),
    ('A="a$"', "a$"),
    ("A=$1", ""),
    ('A="$((1 + 2 * 3))"', "7"),
    ("A=$(( (7 - 1) / 4 % 2 ))", "1"),
    ('A="$((-3))"', "-3"),
    ('A="$B;c"', "b;c"),
]


@pytest.mark.parametrize(("text", "expected"), EXPANSIONS)
def test_expansions(text, expected):
    got = values_of(f"B=b\nEMPTY=\n{text}", environment={"HOME": "/home/me"})
    assert got["A"] == expected


@pytest.mark.skipif(not shutil.which("sh"), reason="no shell on this machine")
@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        *((text, name, value) for text, values in ASSIGNMENTS for name, value in values.items() if "\r" not in text),
        *((f"B=b\nEMPTY=\n{text}", "A", value) for text, value in EXPANSIONS),
        *((text, "A", value) for text, value in CHOICES),
    ],
)
def test_a_shell_comes_to_the_same(text, name, expected, tmp_path):
    """What the tables say is not our opinion."""
    (tmp_path / "f").write_text(text)
    words = ["sh", "-c", f'. "$1" >/dev/null 2>&1; printf %s "${name}"', "sh", str(tmp_path / "f")]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={"HOME": "/home/me", "H": "node17"})
    # The shell's own first argument is our file; a configuration has none.
    assert done.stdout.replace(str(tmp_path / "f"), "") == expected


def test_the_number_of_the_process_spreads_nodes():
    """The configuration repository of CERN lets half of the nodes begin with the other server."""
    text = 'if [ "$(($$ % 2))" == 1 ]; then A=odd; else A=even; fi'
    assert values_of(text) == {"A": "odd" if os.getpid() % 2 else "even"}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ('[ "$B" = b ]', True),
        ('[ "$B" == "b" ]', True),
        ('[ "$B" != "b" ]', False),
        ('[ "x$B" = xb ]', True),
        ('test "$B" = b', True),
        ("[ -z $NOTHING ]", True),
        ('[ -z "$B" ]', False),
        ('[ -n "$B" ]', True),
        ('[ "$B" ]', True),
        ('[ "" ]', False),
        ("[ ! -n '' ]", True),
        ("! [ -n '' ]", True),
        ("[ 3 -lt 5 ]", True),
        ("[ 3 -ge 5 ]", False),
        ("[ 5 -eq 05 ]", True),
        ("[ 1 -gt 0 -a 2 -ne 3 ]", True),
        ("[ 1 -gt 1 -o 2 -le 2 ]", True),
        ("[ a = a ] && [ b = c ]", False),
        ("[ a = b ] || [ b = b ]", True),
        ("[ a = b ] && [ a = a ] || [ c = c ]", True),
        ("[ -f f.conf ]", True),
        ("[ -e nothing ]", False),
        ("[ -d . ]", True),
        ("[ -s f.conf ] && [ -r f.conf ]", True),
        ("grep -q 'wheezy\\|two' f.conf", True),
        ("grep -qE 'wheezy|jessie' f.conf", False),
        ("grep -qi ONE f.conf > /dev/null 2>&1", True),
        ("grep -qx one f.conf", True),
        ("grep -qF 'o.e' f.conf", False),
        ("grep -q one nothing", False),
        ("true", True),
        ("false", False),
        ("[ $NOTHING = yes ]", False),
        ("[ '' -lt 5 ]", False),
    ],
)
def test_conditions(condition, expected, tmp_path):
    (tmp_path / "f.conf").write_text("one\ntwo\n")
    path = tmp_path / "main.conf"
    path.write_text(f"B=b\nif {condition}; then A=yes; else A=no; fi\n")
    assert read_files([str(path)], {}, {})["A"].text == ("yes" if expected else "no")


@pytest.mark.parametrize(("text", "expected"), CHOICES)
def test_what_is_chosen(text, expected):
    assert values_of(text, environment={"H": "node17"})["A"] == expected


def test_what_is_fixed_no_file_changes():
    text = 'A=file\n[ "$A" = fixed ] && B=seen'
    assert values_of(text, fixed={"A": "fixed"}) == {"B": "seen"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A=1\nA='b", "f:2: ' is missing"),
        ('A=1\nA="b', 'f:2: " is missing'),
        ("\nA=$(rm -rf x)", "f:2: the command 'rm -rf x' is not run"),
        ("\nA=`id`", "f:2: the command 'id' is not run"),
        ("\nrm -rf x", "f:2: 'rm' is not understood"),
        ("\nif true; then A=1", "f:2: the file ends too early"),
        ("\nfi", "f:2: 'fi' is not understood here"),
        ("\nif; then A=1; fi", "f:2: 'then' is not understood here"),
        ("\nA = b", "f:2: 'A' is not understood"),
        ("\n1A=b", "f:2: '1A=b' is not understood"),
        ("\nA-B=c", "f:2: 'A-B=c' is not understood"),
        ("\n. /etc/other", "f:2: /etc/other lies outside of /etc/cvmfs"),
        ("\n.", "f:2: the name of a file is missing"),
        ("\n[ a = a", "f:2: ] is missing"),
        ("\nfor i in 1 2; do A=$i; done", "f:2: 'for' is not understood here"),
        ("\nf() { A=1; }", r"f:2: '\(' is not understood here"),
        ("\n{ A=1; }", "f:2: '{' is not understood here"),
        ("\n[[ a == a ]]", r"f:2: '\[\[' is not understood here"),
        ("\ncat x | grep y", r"f:2: '\|' is not understood here"),
        ("\nA=1 &", "f:2: '&' is not understood here"),
        ("\necho A > /etc/x", "f:2: only >/dev/null is understood"),
        ("\nA=${B%.*}", "f:2: an expansion that is not understood"),
        ("\nA=${", "f:2: an expansion that is not understood"),
        ("\nA=$((1 + x))", "f:2: "),
        ("\nA=$((__import__('os')))", "f:2: "),
        ("\nA=$((1/0))", "f:2: "),
        (f"\nA=$(({'1+' * 150}1))", "f:2: "),
        ("\ncase x in", "f:2: the file ends too early"),
        ("\ncase x in a A=1;; esac", "f:2: 'A=1' is not understood here"),
        ("\ngrep -r x y", "f:2: grep is understood as"),
        ("\ngrep '[' y", "f:2: grep: the pattern"),
        ("\n" + "if true; then " * 40, "f:2: nested too deeply"),
        ("\nA=" + "${B:-" * 40, "f:2: nested too deeply"),
        ("A=" + "x" * 40000 + "\nA=$A$A", "f:2: a value of more than"),
    ],
)
def test_anything_else_is_refused_with_its_place(text, message):
    with pytest.raises(UsageError, match=f"^{message}"):
        parse_configuration(text, "f")


def test_what_is_not_reached_may_be_anything_that_can_be_read():
    assert values_of("if [ a = b ]; then A=$(uname -m); rm x; fi; B=1") == {"B": "1"}


def test_files_include_others_of_the_tree(tmp_path):
    (tmp_path / "domain.d").mkdir()
    (tmp_path / "common.conf").write_text('[ "$P" = single ] && X="auto;DIRECT"\nreturn\nX=never\n')
    (tmp_path / "domain.d/d.conf").write_text("P=single\n. ../common.conf\nY=$X\n. ./missing.conf\nZ=after\n")
    script = Script(Places(str(tmp_path)), {}, {})
    script.run_file(str(tmp_path / "domain.d/d.conf"))
    assert {name: value.text for name, value in script.values.items()} == {
        "P": "single",
        "X": "auto;DIRECT",
        "Y": "auto;DIRECT",
        "Z": "after",
    }
    assert script.values["X"] == Value("auto;DIRECT", str(tmp_path / "common.conf"), 1)
    assert len(script.warnings) == 1
    assert "missing.conf does not exist" in script.warnings[0]


def test_inclusion_without_end_is_refused(tmp_path):
    path = tmp_path / "a.conf"
    path.write_text("A=1\n. ./a.conf\n")
    with pytest.raises(UsageError, match="include each other without end"):
        read_files([str(path)], {}, {})


def test_the_error_of_an_included_file_names_that_file(tmp_path):
    (tmp_path / "inner.conf").write_text("\n\nA=`id`\n")
    (tmp_path / "outer.conf").write_text(". ./inner.conf\n")
    with pytest.raises(UsageError, match=f"^{tmp_path}/inner.conf:3: the command"):
        read_files([str(tmp_path / "outer.conf")], {}, {})


@pytest.mark.parametrize("kind", ["pipe", "large", "binary", "directory"])
def test_what_is_no_configuration_file_is_refused_at_once(kind, tmp_path):
    path = tmp_path / "x.conf"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.write_bytes(b"A=1\n" + (b"#" * LARGEST_FILE if kind == "large" else b"\0"))
    with pytest.raises(UsageError, match=r"x\.conf: "):
        read_files([str(path)], {}, {})
    with pytest.raises(UsageError, match="no such configuration file"):
        read_files([str(tmp_path / "nothing")], {}, {})


def test_a_moved_tree_is_moved_as_a_whole():
    places = Places("/home/me/etc")
    places.move("/cvmfs/config.example.org", "/copy")
    assert places.here("/etc/cvmfs/keys") == "/home/me/etc/keys"
    assert places.here("/etc/cvmfs2/keys") == "/etc/cvmfs2/keys"
    assert places.in_value("CVMFS_KEYS_DIR", "/etc/cvmfs/keys/d") == "/home/me/etc/keys/d"
    assert places.in_value("CVMFS_PUBLIC_KEY", "/etc/cvmfs/a.pub:/b.pub") == "/home/me/etc/a.pub:/b.pub"
    assert places.in_value("CVMFS_KEYS_DIR", "/cvmfs/config.example.org/etc/cvmfs/keys") == "/copy/etc/cvmfs/keys"
    assert places.in_value("CVMFS_CACHE_BASE", "/etc/cvmfs/x") == "/etc/cvmfs/x"


def test_links_lead_out_of_the_own_tree_but_not_out_of_a_copy(tmp_path):
    """Each of the two links stays inside by itself."""
    etc, aside, outside = tmp_path / "etc", tmp_path / "copy.1", tmp_path / "outside.conf"
    for directory in (etc, aside / "a" / "b"):
        directory.mkdir(parents=True)
    outside.write_text("X=1\n")
    (aside / "short").symlink_to("a/b")
    (aside / "a" / "out.conf").symlink_to("../short/../../../outside.conf")
    (aside / "a" / "in.conf").symlink_to("../real.conf")
    (aside / "real.conf").write_text("X=2\n")
    (etc / "own.conf").symlink_to(outside)
    copy = tmp_path / "copy"
    copy.symlink_to(aside.name)
    places = Places(str(etc))
    places.move("/cvmfs/config.example.org", str(copy))
    assert places.included(str(etc / "own.conf"), "own.conf") == str(etc / "own.conf")
    assert places.included(str(copy / "a/in.conf"), "in.conf") == str(copy / "a/in.conf")
    assert places.included(str(copy / "missing.conf"), "missing.conf") == str(copy / "missing.conf")
    with pytest.raises(UsageError, match=r"out\.conf lies outside"):
        places.included(str(copy / "a/out.conf"), "out.conf")
    with pytest.raises(UsageError, match="lies outside"):
        places.included(str(outside), "outside.conf")


def test_files_of_a_directory_come_sorted(tmp_path):
    for name in ("20-b.conf", "10-a.conf", "README", "30.conf~"):
        (tmp_path / name).touch()
    assert files_named(str(tmp_path), r".*\.conf") == [f"{tmp_path}/10-a.conf", f"{tmp_path}/20-b.conf"]
    assert files_named(str(tmp_path / "nothing"), ".*") == []
