"""A virtual machine under QEMU: started, told what to do, reset and stopped. Its disk is thrown away with it.

It is spoken to over a serial port of its own, where an agent (tests/vm/agent.py) runs one command after the other. All
that the machine says on its console is kept in a file.
"""

import base64
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

# A machine under emulation, on a computer that has other things to do, is a hundred times slower than one that is not.
BOOT, COMMAND = 900.0, 240.0
_SIGN_OF_LIFE = 20.0


class Answer(NamedTuple):
    """What became of a command: 124 if it took too long; standard output and error together."""

    status: int
    output: str


class Image(NamedTuple):
    """A root file system, and what starts it."""

    disk: Path
    kernel: Path
    initrd: Path


class Machine:
    """One machine, from `image` as it is, with a second disk, `seed`. `console` is the file for what it prints."""

    def __init__(self, image: Image, seed: Path, console: Path) -> None:
        self._image = image
        self._seed = seed
        self.console = console
        self.accelerator = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._sockets = tempfile.TemporaryDirectory(prefix="vm-")
        self._agent: socket.socket | None = None
        self._received = b""
        self._boot = ""

    def start(self) -> None:
        """With hardware support if that works: returns when the agent answers."""
        for accelerator in ["kvm", "tcg"] if os.access("/dev/kvm", os.R_OK | os.W_OK) else ["tcg"]:
            self.accelerator = accelerator
            self._start(accelerator)
            if accelerator == "tcg" or self._lives():
                break
            # There are hosts whose KVM runs no kernel but those that know of it.
            self.stop()
        self.wait_for_boot()

    def _start(self, accelerator: str) -> None:
        self.console.write_bytes(b"")
        self._process = subprocess.Popen(self._command(accelerator), stdin=subprocess.DEVNULL, stderr=self._errors())
        self._agent = self._connected(Path(self._sockets.name) / "agent")

    def _errors(self) -> Any:
        return self.console.with_suffix(".qemu").open("wb")

    def _command(self, accelerator: str) -> list[str]:
        sockets, image = self._sockets.name, self._image
        choice = (
            ["-accel", "kvm", "-cpu", "host,-arch-capabilities"]
            if accelerator == "kvm"
            else ["-accel", "tcg,thread=multi"]
        )
        return [
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35", *choice,
            "-smp", "2", "-m", "1024",
            "-kernel", str(image.kernel), "-initrd", str(image.initrd),
            "-append", "root=/dev/vda rw console=ttyS0 panic=-1 mitigations=off",
            "-drive", f"file={image.disk},if=virtio,format=raw,snapshot=on",
            "-drive", f"file={self._seed},if=virtio,format=raw,readonly=on",
            "-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=",
            "-device", "virtio-rng-pci",
            "-serial", f"file:{self.console}",
            "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=agent,path={sockets}/agent,server=on,wait=off",
            "-device", "virtserialport,chardev=agent,name=agent",
            "-qmp", f"unix:{sockets}/monitor,server=on,wait=off",
        ]  # fmt: skip

    def _connected(self, path: Path) -> socket.socket:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self._process is not None
            assert self._process.poll() is None, self.console.with_suffix(".qemu").read_text()
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(path))
                return connection
            except OSError:
                connection.close()
                time.sleep(0.05)
        raise TimeoutError(f"{path}: QEMU does not listen")

    def _lives(self) -> bool:
        deadline = time.monotonic() + _SIGN_OF_LIFE
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            if b"Linux version" in self.console.read_bytes():
                return True
            time.sleep(0.1)
        return False

    def wait_for_boot(self) -> None:
        """Until the agent of a boot that is not known yet reports."""
        deadline = time.monotonic() + BOOT
        while (said := self._line(deadline)).get("boot") in (None, self._boot):
            pass
        self._boot = said["boot"]

    def _wait_until_settled(self) -> None:
        self.wait_for_boot()
        # "degraded" is for units that failed, of which tests know more.
        state = self.run("systemctl is-system-running --wait", BOOT).output.strip()
        assert state in ("running", "degraded"), state

    def run(self, command: str, timeout: float = COMMAND) -> Answer:
        """A line of shell, as root; it has `timeout` seconds, and the machine a little more to say so."""
        assert self._agent is not None
        request = {"command": command, "timeout": timeout}
        self._agent.sendall(json.dumps(request).encode() + b"\n")
        answer = self._line(time.monotonic() + timeout + 120)
        assert "status" in answer, f"the machine has started anew: {answer}"
        return Answer(answer["status"], base64.b64decode(answer["output"]).decode(errors="replace"))

    def must(self, command: str, timeout: float = COMMAND) -> str:
        """The output of a command that succeeds."""
        answer = self.run(command, timeout)
        assert answer.status == 0, f"{command}: status {answer.status}: {answer.output}"
        return answer.output

    def reboot(self) -> None:
        """As an administrator does; returns when all is started that starts at boot."""
        self.must("systemctl --no-block reboot")
        self._wait_until_settled()

    def cut_power(self) -> None:
        """Stop at once, without any warning, and start again."""
        with self._connected(Path(self._sockets.name) / "monitor") as monitor:
            monitor.settimeout(60)
            for command in ("qmp_capabilities", "system_reset"):
                monitor.sendall(json.dumps({"execute": command}).encode())
                while b"return" not in monitor.recv(4096):
                    pass
        self._wait_until_settled()

    def stop(self) -> None:
        """At once; for good."""
        if self._agent is not None:
            self._agent.close()
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(60)

    def _line(self, deadline: float) -> dict[str, Any]:
        assert self._agent is not None
        while b"\n" not in self._received:
            self._agent.settimeout(max(0.1, deadline - time.monotonic()))
            try:
                received = self._agent.recv(65536)
            except TimeoutError:
                raise TimeoutError("the machine does not answer") from None
            assert received, "QEMU has ended: " + self.console.with_suffix(".qemu").read_text()
            self._received += received
        line, _, self._received = self._received.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def last_words(self, count: int = 60) -> str:
        """The end of what the console says."""
        lines = self.console.read_bytes().decode(errors="replace").splitlines()
        return "\n".join(lines[-count:])
