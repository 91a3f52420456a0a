"""The container's files hold together: what they name is there, what they set is known, what they need is asked for."""

import re
from pathlib import Path

import pytest
import yaml

from cvfs.client.settings.known import Effect, known_parameter
from cvfs_tools.cvfs_command import VERBS

PROJECT = Path(__file__).parents[2]
CONTAINER = PROJECT / "server" / "deploy" / "container"
README = (CONTAINER / "README.md").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((CONTAINER / "compose.yaml").read_text(encoding="utf-8"))
CONFIG_MAP, DAEMON_SET = yaml.safe_load_all((CONTAINER / "daemonset.yaml").read_text(encoding="utf-8"))

# Of the Compose specification, what is used here and may stand there.
SERVICE_KEYS = {
    "image", "build", "cap_add", "devices", "security_opt", "environment", "volumes", "healthcheck", "depends_on",
    "restart", "command", "profiles",
}  # fmt: skip
VOLUME_KEYS = {"bind": {"type", "source", "target", "read_only", "bind"}, "volume": {"type", "source", "target"}}


def instructions():
    """Of the Containerfile: pairs of a word and the rest, lines joined, comments left out."""
    text = (CONTAINER / "Containerfile").read_text(encoding="utf-8")
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in lines.splitlines() if line.strip()]


def stages():
    """Each stage with its instructions, and what it is made from."""
    found = {}
    for word, rest in instructions():
        if word == "FROM":
            base, name = re.fullmatch(r"(\S+) AS (\S+)", rest).groups()
            found[name] = (base, [])
        elif found:
            found[name][1].append((word, rest))
    return found


STAGES = stages()


def of_stage(name, word):
    """What a word says in a stage or in those that it is made from, the nearest first."""
    base, lines = STAGES[name]
    return [rest for said, rest in lines if said == word] + (of_stage(base, word) if base in STAGES else [])


# --- the Containerfile ------------------------------------------------------------------------------------------------


def test_the_last_stage_is_the_service():
    assert list(STAGES)[-1] == "service"
    assert {"service", "exec", "squid"} < set(STAGES)


def test_stages_come_from_a_base_that_can_be_chosen_or_from_earlier_ones():
    seen = {"${BASE}"}
    for name, (base, lines) in STAGES.items():
        assert base in seen
        assert all(rest.split()[0].removeprefix("--from=") in seen for word, rest in lines if "--from=" in rest)
        seen.add(name)
    (base,) = [rest for word, rest in instructions() if word == "ARG" and rest.startswith("BASE=")]
    # A short name: which registry it comes from is for the engine's configuration to say.
    assert re.fullmatch(r"BASE=[a-z]+:[a-z-]+", base)


def test_what_is_copied_is_there():
    copied = [rest.split()[:-1] for _, lines in STAGES.values() for word, rest in lines if word == "COPY"]
    sources = [source for words in copied if not words[0].startswith("--from") for source in words]
    assert [source for source in sources if "[" not in source and not (PROJECT / source).exists()] == []
    # A pattern alone that fits nothing would end the build.
    assert all("[" not in words[0] for words in copied)


@pytest.mark.parametrize("name", ["service", "exec"])
def test_entry_points_are_verbs(name):
    entry = yaml.safe_load(of_stage(name, "ENTRYPOINT")[0])
    assert entry[0] == "cvfs"
    assert entry[1] in VERBS
    assert len(entry) == 2


def test_only_who_must_is_root():
    assert of_stage("exec", "USER") == ["1000:1000"]
    assert of_stage("service", "USER") == []


def test_the_health_check_is_the_probe():
    command = yaml.safe_load(of_stage("service", "HEALTHCHECK")[0].partition("CMD ")[2])
    assert command == COMPOSE["services"]["cvfs"]["healthcheck"]["test"][1:] == ["cvfs", "probe"]


def test_volumes_are_where_a_client_looks():
    assert of_stage("service", "VOLUME") == ["/var/lib/cvmfs"]
    assert "/cvmfs /etc/cvmfs/keys /var/lib/cvmfs" in of_stage("service", "RUN")[0]
    assert of_stage("squid", "VOLUME")[0] in (PROJECT / "server" / "deploy" / "squid.conf").read_text()


# --- compose ----------------------------------------------------------------------------------------------------------


def test_compose_says_nothing_that_is_not_in_the_specification():
    assert set(COMPOSE) == {"services", "volumes"}
    for service in COMPOSE["services"].values():
        assert set(service) <= SERVICE_KEYS
        for volume in service["volumes"]:
            assert set(volume) <= VOLUME_KEYS[volume["type"]]
            assert set(volume.get("bind", {})) <= {"propagation", "create_host_path"}


def test_compose_builds_targets_that_exist_from_files_that_exist():
    for service in COMPOSE["services"].values():
        if "build" in service:
            assert service["build"]["target"] in STAGES
            context = (CONTAINER / service["build"]["context"]).resolve()
            assert context == PROJECT
            assert (context / service["build"]["dockerfile"]) == CONTAINER / "Containerfile"
            assert service["image"] == f"cvfs-{service['build']['target']}"


def test_compose_refers_to_what_it_declares():
    services = COMPOSE["services"]
    for service in services.values():
        assert set(service.get("depends_on", ())) <= set(services)
    named = {v["source"] for s in services.values() for v in s["volumes"] if v["type"] == "volume"}
    assert named == set(COMPOSE["volumes"])


def volume(service, target):
    (found,) = [one for one in COMPOSE["services"][service]["volumes"] if one["target"] == target]
    return found


def test_the_service_gives_its_mounts_and_the_job_takes_them():
    assert volume("cvfs", "/cvmfs")["bind"]["propagation"] == "rshared"
    assert volume("job", "/cvmfs")["bind"]["propagation"] == "rslave"
    assert volume("cvfs", "/cvmfs")["source"] == volume("job", "/cvmfs")["source"] == "/cvmfs"
    service = COMPOSE["services"]["cvfs"]
    assert (service["cap_add"], service["devices"]) == (["SYS_ADMIN"], ["/dev/fuse"])
    assert not {"privileged", "user"} & set(service)


def test_every_variable_is_in_the_readme():
    text = (CONTAINER / "compose.yaml").read_text(encoding="utf-8")
    variables = set(re.findall(r"\$\{(\w+)", text)) | {r.split("=")[0] for w, r in instructions() if w == "ARG"}
    assert {"CVMFS_REPOSITORIES", "BASE", "EXTRAS"} < variables
    assert [name for name in sorted(variables) if f"`{name}" not in README and f"{name}=" not in README] == []


def test_parameters_are_obeyed():
    given = {*COMPOSE["services"]["cvfs"]["environment"], *CONFIG_MAP["data"]}
    given |= {rest.split("=")[0] for rest in of_stage("service", "ENV")} - {"PATH"}
    assert "CVMFS_QUOTA_LIMIT" in given
    for name in given:
        assert known_parameter(name).effect is Effect.OBEYED


# --- Kubernetes -------------------------------------------------------------------------------------------------------


def test_the_daemon_set_gives_its_mounts():
    pod = DAEMON_SET["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert DAEMON_SET["spec"]["selector"]["matchLabels"] == DAEMON_SET["spec"]["template"]["metadata"]["labels"]
    assert container["securityContext"] == {"privileged": True}
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert mounts["/cvmfs"]["mountPropagation"] == "Bidirectional"
    assert {mount["name"] for mount in mounts.values()} == {volume["name"] for volume in pod["volumes"]}
    assert container["envFrom"][0]["configMapRef"]["name"] == CONFIG_MAP["metadata"]["name"]
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["exec"]["command"] == ["cvfs", "probe"]
    assert pod["terminationGracePeriodSeconds"] > 10
    # Kubernetes takes text only.
    assert all(isinstance(value, str) for value in CONFIG_MAP["data"].values())
