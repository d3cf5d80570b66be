#!/bin/sh
# What happens to the package in a fresh Debian, as root in its folder: /tasker.deb is the package. Each step says what it is about, so
# that a failure shows where it happened.
set -eu

fail() { echo "$*" >&2; exit 1; }
# Everything but what dpkg and the loader keep for themselves.
files() {
  find / -xdev \( -path /proc -o -path /dev -o -path /tmp -o -path /var/lib/dpkg -o -path /var/log -o -path /var/cache \) -prune -o -print |
    grep -v -e "^/etc/\(passwd\|group\|shadow\|gshadow\|subuid\|subgid\)-\?$" -e "^/etc/.pwd.lock$" | sort
}
mode() { stat -c "%a %U:%G" "$1"; }
is() { [ "$2" = "$3" ] || fail "$1: $2, expected $3"; }

files >/tmp/before
cut -d: -f1 /etc/passwd | sort >/tmp/users
echo "install"
dpkg --install /tasker.deb
is "mode of the configuration" "$(mode /etc/tasker/production.config.yaml)" "640 root:tasker"
is "mode of the secrets" "$(mode /etc/tasker/tasker.env)" "600 root:root"
is "mode of the handlers" "$(mode /etc/tasker/handlers)" "755 root:root"
is "mode of the data" "$(mode /var/lib/tasker)" "750 tasker:tasker"
is "shell of the user" "$(getent passwd tasker | cut -d: -f7)" "/usr/sbin/nologin"
for process in /proc/[0-9]*/exe; do
  [ "$(readlink "$process")" != /usr/bin/tasker ] || fail "the package has started $process"
done
[ -z "$(find /etc/systemd -name "tasker*")" ] || fail "the package has enabled a unit"
if ldd /usr/bin/tasker | grep "not found"; then fail "a library is missing"; fi

echo "check the configuration"
as_tasker() { setpriv --reuid tasker --regid tasker --clear-groups "$@"; }
cd /var/lib/tasker
TASKER_MQ_HOST=mq TASKER_MQ_PASSWORD=secret as_tasker tasker config check --for endpoint --config /etc/tasker/production.config.yaml

echo "run"
# Not `as_tasker`: that is a shell, and the signal is for tasker.
setpriv --reuid tasker --regid tasker --clear-groups tasker up --data-dir /var/lib/tasker/trial --listen 127.0.0.1:0 >/tmp/up 2>&1 &
up=$!
trap 'kill -KILL "$up" 2>/dev/null || true' EXIT
tries=0
until grep -q "http://127.0.0.1:" /tmp/up; do
  tries=$((tries + 1))
  if [ "$tries" -gt 600 ] || ! kill -0 "$up"; then
    cat /tmp/up
    fail "it does not come up"
  fi
  sleep 0.1
done
api=$(grep -o "http://127.0.0.1:[0-9]*" /tmp/up | head -n 1)
as_tasker tasker --api "$api" submit worker --payload "{\"seconds\": 0}" --wait 1m
kill "$up"
wait "$up" || fail "it does not stop well"

echo "upgrade"
echo "# mine" >>/etc/tasker/production.config.yaml
chmod 600 /etc/tasker/production.config.yaml
touch /etc/tasker/handlers/mine.sh
dpkg-deb --raw-extract /tasker.deb /tmp/next
sed -i "s/^Version: .*/&+next/" /tmp/next/DEBIAN/control
dpkg-deb --root-owner-group -Zgzip -z1 --build /tmp/next /tmp/next.deb
dpkg --install /tmp/next.deb
tail -n 1 /etc/tasker/production.config.yaml | grep -q "^# mine$" || fail "the upgrade took the configuration away"
is "mode of the configuration" "$(mode /etc/tasker/production.config.yaml)" "600 root:tasker"
[ -e /var/lib/tasker/trial/tasker.db ] || fail "the upgrade took the data away"

echo "remove"
dpkg --remove tasker
[ ! -e /usr/bin/tasker ] || fail "the program is still there"
[ -e /etc/tasker/production.config.yaml ] || fail "the removal took the configuration away"
[ -e /var/lib/tasker/trial/tasker.db ] || fail "the removal took the data away"
dpkg --install /tmp/next.deb
is "mode of the configuration after a removal" "$(mode /etc/tasker/production.config.yaml)" "600 root:tasker"

echo "purge"
mkdir -p /etc/systemd/system/multi-user.target.wants
ln -s /usr/lib/systemd/system/tasker-endpoint@.service /etc/systemd/system/multi-user.target.wants/tasker-endpoint@web1.service
dpkg --purge tasker
[ -e /etc/tasker/handlers/mine.sh ] || fail "the purge took a handler of the administrator away"
rm -r /etc/tasker
rmdir -p --ignore-fail-on-non-empty /etc/systemd/system/multi-user.target.wants
files >/tmp/after
diff /tmp/before /tmp/after || fail "the purge leaves files"
cut -d: -f1 /etc/passwd | sort | diff /tmp/users - || fail "the purge leaves a user"
