"""Starts a coordinator and fuzzes its API by its own document, as each kind of caller.

    fuzz.py COORDINATOR [ROLE...]

What is demanded of every answer: no fault of ours (5xx other than the documented "busy" and
"disk full"), a status, a media type and a body that the document of the API names. The seed
is fixed, so a failure comes again; the number of requests is bounded.
"""

import json
import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

SEED = "20261121"
EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "12")
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
ROLES = ["anonymous", "user", "monitor", "domain-admin", "superadmin"]
# Each parameter and member at and beyond its bounds takes a minute; who may do everything gets
# farthest with it, who may do nothing shows that nothing is read before it must be. For the
# others requests are drawn.
THOROUGH = {"anonymous", "superadmin"}
# Held answers and endless streams: what they answer is tested by hand.
SKIPPED = r"(_stream|_poll)$"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Coordinator:
    """A coordinator of its own, with one person per role."""

    def __init__(self, program, directory):
        self.directory = Path(directory)
        self.url = f"https://127.0.0.1:{free_port()}"
        self.log = open(self.directory / "log", "w")
        environment = {
            **os.environ,
            "LONGSHORE__SECURE__MASTER_KEY_FILE": "",
            "LONGSHORE__SERVICES__BACKUP__ENABLED": "false",
            "LONGSHORE__SECURE__MASTER_KEY": "c2l4dGVlbiBieXRlcywgYW5kIHNpeHRlZW4gbW9yZSE=",
            "LONGSHORE__DAEMON__RATE_LIMIT": '{"keypair": 1000000, "anonymous": 1000000}',
            "LONGSHORE__LOGGING__LEVEL": "warn",
            # One address for all that run beside each other.
            "LONGSHORE__DAEMON__APPS__LISTEN": "[]",
        }
        self.process = subprocess.Popen(
            [
                program,
                "--data-dir", self.directory / "data",
                "--listen", self.url.removeprefix("https://"),
            ],
            env=environment,
            stdout=self.log,
            stderr=self.log,
        )
        self.until(lambda: (self.directory / "data/ca.pem").exists())
        self.ca = self.directory / "data/ca.pem"
        self.until(self.answers)

    def until(self, is_so, seconds=60):
        end = time.monotonic() + seconds
        while not is_so():
            if self.process.poll() is not None or time.monotonic() > end:
                sys.exit("the coordinator did not start:\n" + (self.directory / "log").read_text())
            time.sleep(0.05)

    def answers(self):
        try:
            self.call("GET", "/healthz")
            return True
        except OSError:
            return False

    def call(self, method, path, body=None, bearer=None):
        headers = {"content-type": "application/json"}
        if bearer:
            headers["authorization"] = f"Bearer {bearer}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        context = ssl.create_default_context(cafile=self.ca)
        with urllib.request.urlopen(request, context=context, timeout=10) as answer:
            text = answer.read()
        return json.loads(text) if text.startswith(b"{") else text

    def people(self):
        """Credentials by role."""
        link = (self.directory / "data/setup-token").read_text()
        token = re.search(r"#(\S+)", link).group(1)
        first = self.call("POST", "/api/v1/setup", {"token": token, "email": "root@fuzz.example"})
        bearer = {"superadmin": f"{first['access_key']}.{first['secret_key']}", "anonymous": None}
        for role in ROLES:
            if role in bearer:
                continue
            # One beside it that the superadmin may do anything to without harm to the run.
            for name in (role, f"{role}-too"):
                person = {"email": f"{name}@fuzz.example", "username": name, "role": role}
                made = self.call("POST", "/api/v1/users", person, bearer["superadmin"])
                bearer.setdefault(role, f"{made['access_key']}.{made['secret_key']}")
        return bearer

    def alive(self):
        return self.process.poll() is None

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


def fuzz(coordinator, role, bearer):
    command = [
        sys.executable, "-m", "schemathesis.cli", "run",
        coordinator.url + "/api/v1/openapi.json",
        "--tls-verify", str(coordinator.ca),
        "--checks", CHECKS,
        "--phases", "coverage,fuzzing" if role in THOROUGH else "fuzzing",
        "--max-examples", EXAMPLES,
        "--seed", SEED,
        "--exclude-operation-id-regex", SKIPPED,
        "--request-timeout", "20",
        "--suppress-health-check", "all",
        "--generation-database", "none",
        "--warnings", "off",
        "--continue-on-failure",
        "--no-color",
    ]
    if bearer:
        command += ["--header", f"Authorization: Bearer {bearer}"]
    hooks = {**os.environ, "SCHEMATHESIS_HOOKS": str(Path(__file__).with_name("hooks.py"))}
    return subprocess.run(
        command, cwd=coordinator.directory, env=hooks, capture_output=True, text=True
    )


def main():
    program, wanted = sys.argv[1], sys.argv[2:] or ROLES
    with tempfile.TemporaryDirectory(prefix="longshore-fuzz-") as directory:
        failed = []
        for role in wanted:
            place = Path(directory) / role
            place.mkdir()
            # Each role has its own: what one does to people is not the next one's trouble.
            coordinator = Coordinator(program, place)
            bearer = coordinator.people()[role]
            started = time.monotonic()
            ended = fuzz(coordinator, role, bearer)
            took = time.monotonic() - started
            good = ended.returncode == 0 and coordinator.alive()
            print(f"fuzz {role}: {'ok' if good else 'FAILED'} in {took:.0f} s", flush=True)
            if not good:
                failed.append(role)
                print(ended.stdout + ended.stderr)
                print((place / "log").read_text()[-4000:])
            if coordinator.alive():
                coordinator.stop()
        if failed:
            sys.exit(f"fuzz failed as {', '.join(failed)}")


if __name__ == "__main__":
    main()
