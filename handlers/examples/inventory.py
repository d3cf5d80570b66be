#!/usr/bin/env python3
"""Says what kind of server this is: system, processors, memory, uptime, load, addresses.

Task payload, optional: {"sections": ["system", "memory"]} answers just these.
Answer: an object with a member for each section. Exit code 64 for a section that does not exist, and 75 ("try again") when
the system does not say what it usually says.

Install it under the name of the task type, such as <handlers_dir>/inventory.py. Needs Python 3 and nothing else.
"""

import json
import os
import platform
import socket
import sys


def system():
    release = {}
    try:
        with open("/etc/os-release", encoding="utf-8") as lines:
            pairs = (line.strip().split("=", 1) for line in lines if "=" in line)
            release = {key: value.strip('"') for key, value in pairs}
    except FileNotFoundError:
        pass
    return {
        "hostname": socket.gethostname(),
        "os": release.get("PRETTY_NAME", platform.system()),
        "kernel": platform.release(),
        "machine": platform.machine(),
    }


def processors():
    return {"count": os.cpu_count(), "usable": len(os.sched_getaffinity(0))}


def memory():
    with open("/proc/meminfo", encoding="ascii") as lines:
        kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return {"total_kb": kilobytes["MemTotal"], "available_kb": kilobytes["MemAvailable"], "swap_kb": kilobytes["SwapTotal"]}


def uptime():
    with open("/proc/uptime", encoding="ascii") as text:
        return {"seconds": int(float(text.read().split()[0]))}


def load():
    return dict(zip(("one", "five", "fifteen"), (round(value, 2) for value in os.getloadavg())))


def addresses():
    found = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None)}
    return sorted(address for address in found if not address.startswith("127.") and address != "::1")


SECTIONS = {section.__name__: section for section in (system, processors, memory, uptime, load, addresses)}


def main():
    payload = json.load(sys.stdin)["payload"]
    wanted = payload.get("sections", list(SECTIONS)) if isinstance(payload, dict) else list(SECTIONS)
    unknown = [name for name in wanted if name not in SECTIONS]
    if unknown:
        print("no such section: " + ", ".join(map(str, unknown)), file=sys.stderr)
        return 64
    answer = {}
    for number, name in enumerate(wanted, start=1):
        try:
            answer[name] = SECTIONS[name]()
        except (OSError, KeyError, ValueError) as error:
            # A name server that is away must not hide the rest.
            if name != "addresses":
                print(f"{name}: {error}", file=sys.stderr)
                return 75
            answer[name] = []
        print(f"progress: {number * 100 // len(wanted)}", file=sys.stderr)
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
