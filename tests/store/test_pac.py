"""Proxies found by a configuration script, as a server gives it: run apart, within a deadline."""

import importlib.util
import shutil
import sys

import pytest

from cvfs.errors import Unreachable, UsageError
from cvfs.store.pac import discover
from cvfs.store.patience import Timeouts

SERVERS = ("http://s1.example.org/cvmfs/x.example.org", "http://s2.example.com/cvmfs/x.example.org")
PATIENT = Timeouts(direct=30)
SCRIPT = """
function FindProxyForURL(url, host) {
    if (dnsDomainIs(host, ".example.org") && shExpMatch(url, "*/cvmfs/*")) return "PROXY a:3128; PROXY b:3128; DIRECT";
    return "DIRECT";
}
"""


@pytest.fixture
def script(serve):
    """Serves scripts by name; gives the base URL."""
    return lambda **scripts: (
        serve(lambda request: request.serve({f"/{name}.dat": text.encode() for name, text in scripts.items()})).url
    )


def test_the_first_script_that_works_counts(script, unused_url):
    url = script(wpad=SCRIPT, broken="function FindProxyForURL(", none='function FindProxyForURL(u,h) { return "";}')
    urls = [f"{unused_url}/wpad.dat", f"{url}/absent.dat", f"{url}/broken.dat", f"{url}/none.dat", f"{url}/wpad.dat"]
    assert discover(urls, SERVERS, PATIENT) == "http://a:3128;http://b:3128;DIRECT"
    assert discover(urls, SERVERS[1:], PATIENT) == "DIRECT"


def test_a_script_in_a_file(tmp_path):
    (tmp_path / "wpad.dat").write_text(SCRIPT)
    assert discover([f"file://{tmp_path}/wpad.dat"], SERVERS, PATIENT).startswith("http://a:3128")


def test_an_answer_that_is_none(tmp_path, monkeypatch):
    (tmp_path / "wpad.dat").write_text(SCRIPT)
    monkeypatch.setattr(sys, "executable", shutil.which("echo"))
    with pytest.raises(Unreachable, match="the script answers"):
        discover([f"file://{tmp_path}/wpad.dat"], SERVERS, PATIENT)


def test_no_script_at_all(script):
    with pytest.raises(Unreachable, match=r"no proxy configuration script.*absent.dat") as caught:
        discover([script() + "/absent.dat"], SERVERS, PATIENT)
    assert str(caught.value).count("absent.dat") == 1


def test_a_script_without_an_end_is_ended(script):
    url = script(endless="function FindProxyForURL(u, h) { for (;;) {} }")
    with pytest.raises(Unreachable, match="not done after 1 s"):
        discover([f"{url}/endless.dat"], SERVERS, Timeouts(direct=1))


def test_a_script_that_eats_memory_is_ended(script):
    eats = "function FindProxyForURL(u, h) { var a = []; for (;;) a.push(new Array(1000000).join('x') + a.length); }"
    with pytest.raises(Unreachable, match="no proxy configuration script"):
        discover([script(eats=eats) + "/eats.dat"], SERVERS, PATIENT)


def test_without_an_engine_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"cvfs\[pac\]"):
        discover(["http://x/wpad.dat"], SERVERS, PATIENT)
