"""The manual: a page for every verb, made of its help text, in words that man(1) reads without complaint."""

import shutil
import subprocess

import click
import manual
import pages
import pytest

DATED = "2026-11-23"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """All files, by their names below `share`."""
    top = tmp_path_factory.mktemp("share")
    return {str(path.relative_to(top)): path for path in pages.write(top, DATED)}


@pytest.fixture(scope="module")
def texts():
    return {name: text for program in manual.programs() for name, text in manual.pages(program, DATED)}


def verbs(command, ctx):
    if not isinstance(command, click.Group):
        return
    for name in command.list_commands(ctx):
        verb = command.get_command(ctx, name)
        below = click.Context(verb, parent=ctx, info_name=name, **verb.context_settings)
        yield below
        yield from verbs(verb, below)


def everything():
    """Every command that there is, with its context."""
    for program in manual.programs():
        ctx = click.Context(program.command, info_name=program.name, **program.command.context_settings)
        yield ctx
        yield from verbs(program.command, ctx)


COMMANDS = [pytest.param(ctx, id=ctx.command_path) for ctx in everything()]


def test_every_verb_has_a_page(texts):
    for program in manual.programs():
        ctx = click.Context(program.command, info_name=program.name, **program.command.context_settings)
        names = program.command.list_commands(ctx) if isinstance(program.command, click.Group) else []
        assert {f"{program.name}{verb and '-' + verb}.{program.section}" for verb in ("", *names)} <= set(texts)
    assert "mount.cvfs.8" in texts


@pytest.mark.parametrize("ctx", COMMANDS)
def test_every_help_text_says_something(ctx):
    """Of the command in sentences, of each option too; the manual is made of nothing else."""
    text = (ctx.command.help or "").strip()
    first = text.split("\n\n")[0]
    assert len(text) > 20
    assert first[0].isupper()
    assert first[-1] in ".:", first
    for option in ctx.command.params:
        if isinstance(option, click.Option) and not option.hidden:
            assert (option.help or option.show_envvar or "").strip(), option.opts
            # Click's own end with a full stop.
            assert option.name in ("help", "version") or not (option.help or "").rstrip().endswith("."), option.opts


@pytest.mark.parametrize("ctx", COMMANDS)
def test_every_option_says_what_it_takes(ctx):
    """In a word of the field, not by a type of Python's: --days DAYS, not --days INTEGER."""
    for option in ctx.command.params:
        if isinstance(option, click.Option) and not (option.is_flag or option.hidden):
            assert option.metavar or isinstance(option.type, click.Choice), f"{option.opts}: no metavar"


def test_every_option_is_on_the_page(texts):
    """Also those of the verbs of a verb."""
    for ctx in everything():
        path = ctx.command_path.split()
        (page,) = (text for name, text in texts.items() if name.rsplit(".", 1)[0] == "-".join(path[:2]))
        for option in ctx.command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert all(manual._text(word) in page for word in option.opts), (path, option.opts)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a-b", r"a\-b"),
        (r"\n", r"\en"),
        ("it's", r"it\(aqs"),
        ("`x`", r"\(gax\(ga"),
        ("…", "..."),
        ("–→", r"\[u2013]\[u2192]"),  # noqa: RUF001
    ],
)
def test_characters(text, written):
    assert manual._text(text) == written


@pytest.mark.parametrize(("text", "written"), [(".x", r"\&.x"), ("'x", r"\&\(aqx"), ("x.", "x.")])
def test_no_line_is_a_request_by_accident(text, written):
    assert manual._line(text) == written


def test_paragraphs():
    text = "One two\nthree.\n\n\b\n  kept\n  as is\n\nLast."
    assert list(manual._paragraphs(text)) == [
        "One two three.",
        ".PP",
        ".nf",
        "  kept",
        "  as is",
        ".fi",
        ".PP",
        "Last.",
    ]


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("Do it.", "Do it"),
        ("Do it. And more.", "Do it"),
        ("Do it: like\nthis.\n\nMore.", "Do it"),
        ("Read /etc/cvmfs.d or a.b.c.", "Read /etc/cvmfs.d or a.b.c"),
    ],
)
def test_in_short(text, short):
    assert manual._in_short(click.Command("x", help=text)) == short


def test_the_date_is_that_of_the_commit(texts):
    assert all(f'"{DATED}"' in text.splitlines()[0] for text in texts.values())


def test_man_reads_them(written):
    """With all warnings on."""
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    found = [path for name, path in written.items() if name.startswith("man/")]
    assert len(found) > 50
    for device in ("utf8", "ascii"):
        command = ["groff", "-man", "-ww", "-z", f"-T{device}", *found]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_a_reader_sees(written):
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    command = ["groff", "-man", "-P-cbou", "-Tutf8", written["man/man8/mount.cvfs.8"]]
    seen = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    for words in ("MOUNT.CVFS(8)", "mount.cvfs [OPTIONS] REPOSITORY MOUNTPOINT", "-o OPTIONS", "cvfs(1), mount(8)"):
        assert words in seen


@pytest.mark.parametrize("program", ["cvfs", "cvfs-server"])
def test_shells_read_the_completion_scripts(written, program):
    scripts = {
        "bash": f"bash-completion/completions/{program}",
        "zsh": f"zsh/site-functions/_{program}",
        "fish": f"fish/vendor_completions.d/{program}.fish",
    }
    for shell, name in scripts.items():
        text = written[name].read_text()
        variable = f"_{program.replace('-', '_').upper()}_COMPLETE={shell}_complete"
        assert variable in text
        if shutil.which(shell):
            assert subprocess.run([shell, "-n", written[name]], capture_output=True, timeout=60).stderr == b""


def test_pages_without_a_date(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    monkeypatch.setattr("sys.argv", ["pages.py", str(tmp_path)])
    pages.main()
    assert (tmp_path / "man/man1/cvfs.1").read_text().startswith('.TH "CVFS" 1 "" "cvfs ')
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    pages.main()
    assert (tmp_path / "man/man1/cvfs.1").read_text().startswith('.TH "CVFS" 1 "2023-11-14" ')
    assert capsys.readouterr().out.count("files") == 2
