"""Runs in the machine: takes commands from a serial port, one after the other, and answers with what became of them."""

import base64
import json
import os
import signal
import subprocess
import time

PORT = "/dev/virtio-ports/agent"


def run(command: str, timeout: float) -> tuple[int, bytes]:
    """Status and output of a line of shell; the whole group of processes goes if it takes too long."""
    process = subprocess.Popen(
        ["/bin/sh", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        cwd="/",
    )
    try:
        output = process.communicate(timeout=timeout)[0]
        return process.returncode, output
    except subprocess.TimeoutExpired as late:
        os.killpg(process.pid, signal.SIGKILL)
        return 124, late.stdout or b""


def main() -> None:
    """For as long as the machine runs."""
    while not os.path.exists(PORT):
        time.sleep(0.2)
    port = os.open(PORT, os.O_RDWR)
    with open("/proc/sys/kernel/random/boot_id") as file:
        say(port, {"boot": file.read().strip()})
    with open(port, "rb", buffering=0) as lines:
        pending = b""
        while True:
            received = lines.read(4096)
            if not received:
                # Nobody is connected at the other end.
                time.sleep(0.2)
            *whole, pending = (pending + received).split(b"\n")
            for line in whole:
                status, output = run(**json.loads(line))
                say(port, {"status": status, "output": base64.b64encode(output[-1048576:]).decode()})


def say(port: int, message: dict) -> None:
    """One line to the other end."""
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(port, data) :]


if __name__ == "__main__":
    main()
