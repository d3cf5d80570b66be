#!/usr/bin/env python3
"""Brings a service of this server to a version, for rollouts: install, restart, check.

Task payload: {"service": "web", "version": "2.1"}
Answer: {"service": "web", "version": "2.1", "changed": true}; "changed" is false where the server had that version.

Each service has a directory of its own in $ROLLING_UPDATE_DIR (/etc/tasker/services), with executables that are called
with the version:
  install   puts the version in place, such as: apt-get install -y --allow-downgrades "web=$1"
  restart   restarts the service: systemctl restart web
  check     ends with 0 once the service works; it is tried for $ROLLING_UPDATE_CHECK seconds (60). Optional
  reboot    instead of `restart`: what it does ends the endpoint, or the server. The task is then finished as soon as the
            endpoint is back, and the rollout judges it by `healthy`. Optional
The label SERVICE=VERSION in $ROLLING_UPDATE_LABELS (/var/lib/tasker/labels, which is `endpoint.labels_file`) says what the
server has. A server on which something failed has no version, so that a rollback installs the old one anew.

Fails with 64 for a payload that it does not understand, 66 for a service that this server does not have, 1 when a step failed;
75 ("try again") while another update of the service runs. Install it as <handlers_dir>/rolling_update.py, and list the
variables that you set in `endpoint.pass_env`. Needs Python 3 and nothing else.
"""

import fcntl
import json
import os
import re
import subprocess
import sys
import time

SERVICE = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
# No slash and no dash in front: the version goes to other programs.
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~:-]{0,127}")


def step(home, name, version):
    return subprocess.run([os.path.join(home, name), version], stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False).returncode


def works(home, version, seconds):
    if not os.path.exists(os.path.join(home, "check")):
        return True
    deadline = time.monotonic() + seconds
    while step(home, "check", version) != 0:
        if time.monotonic() >= deadline:
            return False
        time.sleep(1)
    return True


def replace(path, text):
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".new", path)


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def label(service, version):
    """Sets the label of the service, or removes it when there is no version. Other services may do the same now."""
    path = os.environ.get("ROLLING_UPDATE_LABELS", "/var/lib/tasker/labels")
    with open(path + ".lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lines = [line for line in read(path).splitlines() if line.split("=")[0].strip() != service]
        replace(path, "".join(line + "\n" for line in lines + ([f"{service}={version}"] if version else [])))


def main():
    payload = json.load(sys.stdin)["payload"]
    payload = payload if isinstance(payload, dict) else {}
    service, version = (str(payload.get(name, "")) for name in ("service", "version"))
    if not SERVICE.fullmatch(service) or not VERSION.fullmatch(version):
        print('the payload must be {"service": NAME, "version": VERSION}', file=sys.stderr)
        return 64
    home = os.path.join(os.environ.get("ROLLING_UPDATE_DIR", "/etc/tasker/services"), service)
    if not os.path.isdir(home):
        print(f"this server has no service {service}: there is no {home}", file=sys.stderr)
        return 66
    seconds = float(os.environ.get("ROLLING_UPDATE_CHECK", "60"))
    state = os.path.join(home, "version")
    with open(os.path.join(home, "lock"), "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another update of {service} runs", file=sys.stderr)
            return 75
        answer = {"service": service, "version": version, "changed": False}
        if read(state).strip() == version and works(home, version, 0):
            label(service, version)
            print(json.dumps(answer))
            return 0
        answer["changed"] = True
        replace(state, "")
        label(service, "")
        if step(home, "install", version) != 0:
            print(f"cannot install {service} {version}", file=sys.stderr)
            return 1
        print("progress: 50", file=sys.stderr, flush=True)
        if os.path.exists(os.path.join(home, "reboot")):
            replace(state, version + "\n")
            label(service, version)
            print("restarting: " + json.dumps(answer), file=sys.stderr, flush=True)
            if step(home, "reboot", version) == 0:
                # This program is ended before that is over.
                time.sleep(600)
            replace(state, "")
            label(service, "")
            print(f"the server does not restart for {service} {version}", file=sys.stderr)
            return 1
        if step(home, "restart", version) != 0 or not works(home, version, seconds):
            print(f"{service} {version} does not work", file=sys.stderr)
            return 1
        replace(state, version + "\n")
        label(service, version)
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
