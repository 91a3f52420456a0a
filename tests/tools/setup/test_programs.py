"""What a set-up makes the machine run, and where it mounts: whether root alone decides, and whether it can be named."""

import os

import pytest
from click.testing import CliRunner

from cvfs_tools.cvfs_command import main
from cvfs_tools.setup import command, programs
from cvfs_tools.setup.programs import not_roots_alone

NOBODY = 65534


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory that root alone can change, as /opt is one: what is above it does not count."""
    if os.geteuid() != 0:
        pytest.skip("only root has files of root's, and gives them away")
    above = programs._above
    monkeypatch.setattr(programs, "_above", lambda path: (one for one in above(path) if one.startswith(str(tmp_path))))
    tmp_path.chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/cvfs").touch()
    return tmp_path


def test_what_root_alone_can_change(place):
    (place / "link").symlink_to("bin/cvfs")
    assert not_roots_alone([str(place / "bin/cvfs")]) is None
    assert not_roots_alone([str(place / "link"), "mount", "/not/there"]) is None


@pytest.mark.parametrize("name", ["bin/cvfs", "bin", "."])
def test_what_belongs_to_somebody_else(place, name):
    os.chown(place / name, NOBODY, -1)
    expected = f"{place / name} belongs to user {NOBODY}"
    assert not_roots_alone([str(place / "bin/cvfs")]) == expected
    assert not_roots_alone(["/bin/true", str(place / "bin/cvfs")]) == expected


@pytest.mark.parametrize("name", ["bin/cvfs", "bin", "."])
def test_what_everybody_may_write_to(place, name):
    (place / name).chmod(0o777)
    (place / "link").symlink_to("bin/cvfs")
    assert not_roots_alone([str(place / "link")]) == f"everybody may write to {place / name}"


def test_a_link_of_somebody_else(place):
    (place / "link").symlink_to("bin/cvfs")
    os.chown(place / "link", NOBODY, -1, follow_symlinks=False)
    assert not_roots_alone([str(place / "link")]) == f"{place / 'link'} is a link of user {NOBODY}"


def test_what_is_gone_after_the_next_boot(place, monkeypatch):
    monkeypatch.setattr(programs, "_EMPTIED", (str(place),))
    assert not_roots_alone([str(place / "bin/cvfs")]) == f"{place} is emptied at boot, and then anybody's"


@pytest.mark.parametrize("words", [("--fstab", "a.org"), ("--cloud-init", "a.org"), ()])
@pytest.mark.parametrize("place", ["sw", "/a b", "/100%", "/a$b", "/a/../b", "/", "/a\nExecStart=/b", "//a"])
def test_a_place_that_units_or_tables_would_take_for_something_else_is_refused(tmp_path, words, place):
    done = CliRunner().invoke(main, ["setup", "--root", str(tmp_path), "--mount-dir", place, *words], prog_name="cvfs")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "mount below an absolute path of letters" in done.stderr
    assert os.listdir(tmp_path) == []


def test_it_is_told_what_others_could_make_root_run(tmp_path, monkeypatch):
    """But not of the files of another machine, which are looked at here."""
    told = []
    monkeypatch.setattr(programs, "not_roots_alone", lambda words: told.append(words) or "it is anybody's")
    monkeypatch.setattr(command, "is_this_machine", lambda root: root.endswith("own"))
    errors = []
    for name in ("own", "other"):
        (tmp_path / name).mkdir()
        words = ["setup", "--root", str(tmp_path / name), "--bin", "/opt/bin", "--no-start"]
        monkeypatch.setattr(command.os, "geteuid", lambda: 0)
        errors.append(CliRunner().invoke(main, words, prog_name="cvfs").stderr)
    advice = "install cvfs where only root may write, and set up anew"
    assert errors == [f"cvfs: warning: root will run /opt/bin/cvfs, but it is anybody's: {advice}\n", ""]
    assert told == [["/opt/bin/cvfs"]]


def test_a_value_that_is_no_line_is_refused(tmp_path):
    words = ["setup", "--root", str(tmp_path), "-p", "http://a\nCVMFS_SERVER_URL=http://b"]
    done = CliRunner().invoke(main, words, prog_name="cvfs")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert os.listdir(tmp_path) == []
