#!/bin/sh
# Says how full the file systems of this server are.
#
# Task payload (both members optional):
#   {"path": "/var", "warn_percent": 90}
# Answer:
#   {"filesystems": [{"mount": "/", "kilobytes": 100, "used_kilobytes": 50, "used_percent": 50}]}
# Fails with 1 when a file system is fuller than `warn_percent`, and names it; the answer is given all the same.
#
# Install it under the name of the task type, such as <handlers_dir>/disk_usage.sh. Needs nothing but a POSIX shell and
# the usual tools: the two members are cut out of the task with sed, which is enough for a number and a path without quotes.
set -eu

task=$(cat)
# What follows "payload": a customer's identifier must not be able to look like one of its members.
payload=$(printf '%s' "$task" | sed 's/.*"payload":[[:space:]]*//')
path=$(printf '%s' "$payload" | sed -n 's/.*"path"[[:space:]]*:[[:space:]]*"\([^"\\]*\)".*/\1/p')
warn=$(printf '%s' "$payload" | sed -n 's/.*"warn_percent"[[:space:]]*:[[:space:]]*\([0-9]\{1,3\}\).*/\1/p')

if [ -n "$path" ] && [ ! -e "$path" ]; then
    echo "there is no $path on ${TASKER_ENDPOINT:-this server}" >&2
    exit 2
fi

# -P: one line for each file system, whatever the length of its name. Without a path: real devices alone.
usage=$(if [ -n "$path" ]; then df -Pk -- "$path" | sed 1d; else df -Pk | sed 1d | grep -E '^/|^overlay' || true; fi)

printf '%s\n' "$usage" | awk -v warn="${warn:-101}" '
    function quoted(text) { gsub(/\\/, "\\\\", text); gsub(/"/, "\\\"", text); return "\"" text "\"" }
    BEGIN { printf "{\"filesystems\":[" }
    NF >= 6 {
        mount = $6
        for (i = 7; i <= NF; i++) mount = mount " " $i
        percent = $5; sub(/%/, "", percent)
        printf "%s{\"mount\":%s,\"kilobytes\":%d,\"used_kilobytes\":%d,\"used_percent\":%d}", sep, quoted(mount), $2, $3, percent
        sep = ","
        if (percent + 0 > warn + 0) { print mount " is " percent " % full" > "/dev/stderr"; full = 1 }
    }
    END { print "]}"; exit full }
'
