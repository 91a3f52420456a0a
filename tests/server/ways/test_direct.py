"""A publish without a transaction runs the site's hooks, and one that a hook refuses changes nothing."""

import pytest

from cvfs.errors import UsageError


@pytest.fixture
def own(new_repository):
    made = new_repository()
    (made.tree / "file").write_text("text")
    return made


def _hooks(own, text):
    with open(f"{own.site.root}/etc/cvmfs/cvmfs_server_hooks.sh", "w", encoding="ascii") as file:
        file.write(text)


def test_hooks_stand_around_a_publish(own, capfd):
    _hooks(own, "publish_before_hook() { echo before $1; }\npublish_after_hook() { echo after $1; }\n")
    assert own.publish().revision == 2
    assert capfd.readouterr().out == f"before {own.fqrn}\nafter {own.fqrn}\n"


def test_a_hook_may_refuse(own):
    _hooks(own, "publish_before_hook() { exit 1; }\n")
    with pytest.raises(UsageError, match=r"publish_before_hook of .*exited with status 1"):
        own.publish()
    assert own.manifest().revision == 1


def test_an_after_hook_comes_too_late_to_refuse(own):
    _hooks(own, "publish_after_hook() { exit 1; }\n")
    assert own.publish().revision == 2
