"""A laboratory of network namespaces: two hosts behind two NATs, and a public network with a hub and STUN.

    host a 10.1.0.2 - nat a 10.1.0.1 | 198.51.100.11 --+
                                                       bridge 198.51.100.0/24 -- hub, STUN, TURN 198.51.100.10
    host b 10.2.0.2 - nat b 10.2.0.1 | 198.51.100.12 --+

A NAT's mapping is independent of the endpoint (`cone`: Linux keeps the port) or a new random port for every
destination (`symmetric`); both filter by address and port. The addresses are those for documentation (RFC 5737).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any, Literal

Nat = Literal["cone", "symmetric"]
Side = Literal["a", "b"]

PUBLIC = "198.51.100.10"
NOWHERE = "198.51.100.254"
HUB_PORT = 8443
TURN_OPTIONS = (
    *(f"--listening-ip={PUBLIC}", f"--relay-ip={PUBLIC}", "--listening-port=3478"),
    *("--min-port=50000", "--max-port=50999", "--fingerprint", "--log-file=stdout", "-v"),
    *("--realm=pgpeer.test", "--no-cli", "--no-tls", "--no-dtls"),
)
HERE = Path(__file__).parent
_LABS = count()


def reason_to_skip() -> str:
    """Why no laboratory can be built on this machine; empty when it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for tool in ("ip", "iptables"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed (apt-get install iproute2 iptables)"
    name = f"pgpeer-{os.getpid()}-try"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if tried.returncode != 0:
        return f"network namespaces are not allowed here: {tried.stderr.strip()}"
    ruled = subprocess.run(
        ["ip", "netns", "exec", name, "iptables", "-t", "nat", "-S"], capture_output=True, text=True
    )
    subprocess.run(["ip", "netns", "del", name], check=True)
    return f"iptables cannot do NAT here: {ruled.stderr.strip()}" if ruled.returncode != 0 else ""


class Program:
    """A Python program of this folder in a namespace: JSON lines in, JSON lines out."""

    def __init__(self, namespace: str, script: str, options: dict[str, Any], log: Path) -> None:
        self.log = log
        self._errors = log.open("wb")
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, sys.executable, str(HERE / script), json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "PYTHONPATH": str(HERE.parent / "transport")},
        )
        self._said: Queue[dict[str, Any]] = Queue()
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def ask(self, **command: Any) -> None:
        """Give the program a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def hear(self, event: str, seconds: float = 10.0, **members: Any) -> dict[str, Any]:
        """Wait for the program to say something with these members; what it says before is passed over."""
        until = time.monotonic() + seconds
        heard = []
        while (left := until - time.monotonic()) > 0:
            try:
                said = self._said.get(timeout=left)
            except Empty:
                break
            heard.append(said)
            if said["event"] == event and all(said.get(name) == value for name, value in members.items()):
                return said
        raise AssertionError(f"no {event} {members} within {seconds:g} s, only {heard[-5:]}")

    def until(
        self, command: str, holds: Callable[[dict[str, Any]], bool], seconds: float = 15.0
    ) -> dict[str, Any]:
        """Ask again and again until the answer holds."""
        deadline = time.monotonic() + seconds
        while True:
            self.ask(do=command)
            answer = self.hear(command)
            if holds(answer):
                return answer
            assert time.monotonic() < deadline, f"{command} stayed {answer} for {seconds:g} s"
            time.sleep(0.1)

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.wait()
        self._reader.join(5)
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            assert stream is not None
            stream.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                self._said.put(json.loads(line))
        except ValueError:
            return  # the stream was closed


class Lab:
    """The namespaces and everything that runs in them; `close` removes all of it.

    Args:
        nat: the kind of NAT in front of both hosts.
        folder: where logs go.
        far: whether host a is far away: 100 ms there and back, and 2 % of the packets are lost.
    """

    def __init__(self, nat: Nat, folder: Path, *, far: bool = False) -> None:
        self._prefix = f"pgpeer-{os.getpid()}-{next(_LABS)}"
        self._folder = folder
        self._programs: list[Program] = []
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._namespaces = ["net", "hub", "nat-a", "nat-b", "host-a", "host-b"]
        try:
            self._build(nat, far)
        except BaseException:
            self.close()
            raise

    @property
    def hub_url(self) -> str:
        return f"ws://{PUBLIC}:{HUB_PORT}"

    def start_hub(self, *, stun: bool = True, relay: bool = True, turn_secret: str = "") -> Program:
        """Start the hub, with a STUN server beside it unless TURN brings one.

        Args:
            stun: whether to start it.
            relay: whether the hub carries circuits.
            turn_secret: what it shares with coturn, to give peers credentials; empty: it gives none.
        """
        hub = self.run(
            "hub",
            "lab_hub.py",
            host=PUBLIC,
            port=HUB_PORT,
            stun=stun,
            relay=relay,
            turn_url=f"turn:{PUBLIC}:3478",
            turn_secret=turn_secret,
        )
        hub.hear("ready", 20)
        return hub

    def start_turn(self, secret: str = "") -> Path:
        """Start coturn, which serves STUN too, and give its log.

        Args:
            secret: from which a hub makes credentials; empty: one name and password hold for ever.
        """
        accounts = (
            ("--use-auth-secret", f"--static-auth-secret={secret}")
            if secret
            else ("--lt-cred-mech", "--user=pgpeer:secret")
        )
        log = (self._folder / "turn.log").open("wb")
        self._daemons.append(
            subprocess.Popen(
                [
                    *("ip", "netns", "exec", self.name("hub"), "turnserver", "-n", *TURN_OPTIONS, *accounts),
                    f"--userdb={self._folder}/turndb",
                    f"--pidfile={self._folder}/turn.pid",
                ],
                stdout=log,
                stderr=log,
            )
        )
        log.close()
        for _ in range(100):
            listening = subprocess.run(
                ["ip", "netns", "exec", self.name("hub"), "ss", "-Hlun", "sport", "=", "3478"],
                capture_output=True,
                check=True,
            ).stdout
            if listening:
                return self._folder / "turn.log"
            time.sleep(0.05)
        raise AssertionError("coturn did not start: " + (self._folder / "turn.log").read_text())

    def run(self, where: str, script: str, **options: Any) -> Program:
        """Start a program in a namespace."""
        log = self._folder / f"{where}-{len(self._programs)}.log"
        program = Program(self.name(where), script, options, log)
        self._programs.append(program)
        return program

    def call(self, where: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program in a namespace to its end."""
        return subprocess.run(
            ["ip", "netns", "exec", self.name(where), *words], capture_output=True, text=True, timeout=60
        )

    def block_udp(self, side: Side) -> None:
        """The firewall of one side lets no UDP out or in any more."""
        self.rule(side, "-I", "FORWARD", "-p", "udp", "-j", "DROP")

    def unblock_udp(self, side: Side) -> None:
        """And now it does again."""
        self.rule(side, "-D", "FORWARD", "-p", "udp", "-j", "DROP")

    def move(self, side: Side) -> None:
        """A host gets another address, as when it changes from one network to another."""
        net = {"a": "10.1.0", "b": "10.2.0"}[side]
        host = self.name(f"host-{side}")
        self._ip(f"-n {host} addr del {net}.2/24 dev e0")
        self._ip(f"-n {host} addr add {net}.3/24 dev e0")
        self._ip(f"-n {host} route replace default via {net}.1")

    def rule(self, side: Side, *words: str) -> None:
        """Change the rules of one side's NAT."""
        self._in(f"nat-{side}", "iptables", *words)

    def name(self, namespace: str) -> str:
        """Give the full name of a namespace."""
        return f"{self._prefix}-{namespace}"

    def close(self) -> None:
        """End all programs and remove the namespaces."""
        for program in self._programs:
            program.kill()
        for daemon in self._daemons:
            daemon.terminate()
            daemon.wait()
        for namespace in self._namespaces:
            subprocess.run(["ip", "netns", "del", self.name(namespace)], capture_output=True)

    # Building.

    def _build(self, nat: Nat, far: bool) -> None:
        for namespace in self._namespaces:
            self._ip(f"netns add {self.name(namespace)}")
            self._ip(f"-n {self.name(namespace)} link set lo up")
        net = self.name("net")
        self._ip(f"-n {net} link add br0 type bridge")
        self._ip(f"-n {net} link set br0 up")
        for number, namespace in ((10, "hub"), (11, "nat-a"), (12, "nat-b")):
            self._join(namespace, "e0", "net", f"p{number}", f"198.51.100.{number}/24")
            self._ip(f"-n {net} link set {self._far(number) if far else f'p{number}'} master br0")
            # What is sent to private addresses vanishes, as in the internet. Without this route coturn hears
            # "unreachable" for a peer's private candidate and gives the whole allocation up.
            there = f"-n {self.name(namespace)}"
            self._ip(f"{there} neigh add {NOWHERE} lladdr 02:00:00:00:00:fe dev e0")
            self._ip(f"{there} route add default via {NOWHERE}")
        for side, net24 in (("a", "10.1.0"), ("b", "10.2.0")):
            self._join(f"host-{side}", "e0", f"nat-{side}", "i0", f"{net24}.2/24")
            self._ip(f"-n {self.name(f'nat-{side}')} addr add {net24}.1/24 dev i0")
            self._ip(f"-n {self.name(f'host-{side}')} route add default via {net24}.1")
            self._translate(f"nat-{side}", net24, nat)

    def _far(self, number: int) -> str:
        """Put a program between a device and the bridge (these kernels have no netem); give the bridge's device."""
        if number != 11:
            return f"p{number}"
        net = self.name("net")
        self._ip(f"-n {net} link add q11 type veth peer name r11")
        for device in ("q11", "r11"):
            self._ip(f"-n {net} link set {device} up")
        for namespace, device in (("nat-a", "e0"), ("net", "r11")):
            self._in(namespace, sys.executable, str(HERE / "plain_device.py"), device)
        self.run("net", "far_link.py", devices=["p11", "q11"], delay=0.05, loss=0.02).hear("ready")
        return "r11"

    def _join(self, namespace: str, device: str, other: str, other_device: str, address: str) -> None:
        """Connect two namespaces by a pair of devices."""
        here, there = self.name(namespace), self.name(other)
        self._ip(f"link add {device} netns {here} type veth peer name {other_device} netns {there}")
        self._ip(f"-n {here} addr add {address} dev {device}")
        self._ip(f"-n {here} link set {device} up")
        self._ip(f"-n {there} link set {other_device} up")

    def _translate(self, namespace: str, net24: str, nat: Nat) -> None:
        self._in(namespace, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        replies = ("-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT")
        out = ("-t", "nat", "-A", "POSTROUTING", "-s", f"{net24}.0/24", "-o", "e0", "-j", "MASQUERADE")
        for rule in (
            ("-P", "FORWARD", "DROP"),
            ("-A", "FORWARD", "-i", "i0", "-o", "e0", "-j", "ACCEPT"),
            ("-A", "FORWARD", "-i", "e0", "-o", "i0", *replies),
            ("-P", "INPUT", "DROP"),  # a stray early packet must not take the mapped port
            (*out, "--random-fully") if nat == "symmetric" else out,
        ):
            self._in(namespace, "iptables", *rule)

    def _in(self, namespace: str, *words: str) -> None:
        self._ip(f"netns exec {self.name(namespace)}", *words)

    @staticmethod
    def _ip(line: str, *words: str) -> None:
        done = subprocess.run(["ip", *line.split(), *words], capture_output=True, text=True)
        if done.returncode != 0:
            raise AssertionError(f"ip {line} {' '.join(words)}: {done.stderr}")
