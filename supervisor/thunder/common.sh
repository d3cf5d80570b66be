# shellcheck shell=bash
# What server-init.sh and deploy.sh share: options, places, and steps that change only what is not yet as it should be.
#
# Not all that is set here is used here.
# shellcheck disable=SC2034

# Set by the script that sources this file.
: "${here:?}" "${usage:?}"

checkout=$(cd "$here/../.." && pwd)
DESTDIR=${DESTDIR:-}
DESTDIR=${DESTDIR%/}

user=
group=
binary=
config=$checkout/config/examples/thunder.config.yaml
with_systemd=yes
with_user=yes
with_crontab=yes

program=$DESTDIR/usr/local/bin/tasker
settings=$DESTDIR/etc/tasker
token=$settings/thunder.token
environment=$settings/thunder.env
key=$settings/thunder/server.key
certificate=$settings/thunder/server.cert
units=$DESTDIR/etc/systemd/system
data=$DESTDIR/var/lib/tasker-thunder

services=(tasker-thunder-api.service tasker-thunder-worker.service)

changes=0
notes=()

# Counts what was changed, so that the last line can say whether anything was.
changed() {
  changes=$((changes + 1))
  echo "$*"
}

note() {
  notes+=("$*")
}

fail() {
  echo "${0##*/}: $*" >&2
  exit 1
}

# An option of both scripts, its value after it; answers how many words that were, 0 for an option it does not know.
option() {
  words=2
  case $1 in
    --user | --group | --binary | --config)
      [ -n "${2:-}" ] || fail "$1 needs a value"
      ;;
  esac
  case $1 in
    --user) user=$2 ;;
    --group) group=$2 ;;
    --binary) binary=$2 ;;
    --config) config=$2 ;;
    --no-systemd) with_systemd='' words=1 ;;
    --no-user) with_user='' words=1 ;;
    --no-crontab) with_crontab='' words=1 ;;
    --help | -h)
      echo "$usage"
      exit 0
      ;;
    *) words=0 ;;
  esac
}

# To be called when all options are known.
prepare() {
  local name needed
  # Who was chosen once stays, so that nobody has to remember it.
  if [ -z "$user" ] && [ -f "$units/${services[0]}" ]; then
    user=$(sed -n 's/^User=//p' "$units/${services[0]}")
    group=${group:-$(sed -n 's/^Group=//p' "$units/${services[0]}")}
  fi
  user=${user:-tasker-thunder}
  group=${group:-$user}
  # They go into unit files, through sed.
  for name in "$user" "$group"; do
    [[ $name =~ ^[a-z_][a-z0-9_-]{0,30}$ ]] || fail "'$name' cannot be the name of a user or group"
  done
  if [ -n "$with_user" ] && [ "$EUID" -ne 0 ]; then
    fail "run it as root; an ordinary user can try it with DESTDIR=/some/directory and --no-user --no-systemd"
  fi
  if [ -n "$with_systemd" ] && [ ! -d /run/systemd/system ]; then
    with_systemd=
    note "systemd does not run here, so no service was started"
  fi
  if [ -z "$binary" ]; then
    binary=$checkout/target/release/tasker
    if [ ! -x "$binary" ]; then
      binary=$(command -v tasker) || fail "there is no program: build it (cargo build --release) or name it with --binary"
    fi
  fi
  if [ ! -f "$binary" ] || [ ! -x "$binary" ]; then
    fail "$binary is no program"
  fi
  [ -f "$config" ] || fail "there is no configuration $config"
  for needed in awk cmp install sed stat; do
    command -v "$needed" >/dev/null || fail "$needed is not installed"
  done
  scratch=$(mktemp -d)
  trap 'rm -rf -- "$scratch"' EXIT
  # New files are as closed as they can be until they have their mode.
  umask 077
}

# Whether a file or directory has this mode and, where users are ours to manage, this owner (user:group).
is_kept_as() {
  local mode=$1 owner=$2 path=$3
  [ "$(stat -c %a "$path")" = "${mode#0}" ] || return 1
  [ -z "$with_user" ] || [ "$(stat -c %U:%G "$path")" = "$owner" ]
}

keep_as() {
  local mode=$1 owner=$2 path=$3
  if [ -n "$with_user" ]; then
    chown -- "$owner" "$path"
  fi
  chmod -- "$mode" "$path"
}

directory() {
  local mode=$1 owner=$2 path=$3
  if [ -d "$path" ] && is_kept_as "$mode" "$owner" "$path"; then
    return
  fi
  # Parents get 0755 and are left alone if they are there.
  install -d -m 0755 "$(dirname "$path")"
  [ -d "$path" ] || mkdir -- "$path"
  keep_as "$mode" "$owner" "$path"
  changed "directory $path, mode $mode"
}

# Puts a copy in its place under another name first: a program that runs keeps its file, and nobody sees half of a new one.
place() {
  local mode=$1 owner=$2 source=$3 target=$4
  if [ -f "$target" ] && cmp -s -- "$source" "$target" && is_kept_as "$mode" "$owner" "$target"; then
    return
  fi
  local new
  new=$(dirname "$target")/.${target##*/}.new
  rm -f -- "$new"
  cp -- "$source" "$new"
  keep_as "$mode" "$owner" "$new"
  mv -f -- "$new" "$target"
  changed "file $target, mode $mode"
}

place_all() {
  local unit
  install -d -m 0755 "${program%/*}" "$units"
  place 0755 root:root "$binary" "$program"

  directory 0755 root:root "$settings"
  directory 0755 root:root "$settings/thunder"
  directory 0755 root:root "$settings/thunder/handlers"
  if [ -f "$settings/thunder.config.yaml" ] && ! cmp -s -- "$config" "$settings/thunder.config.yaml"; then
    # It may have been edited here.
    place 0644 root:root "$settings/thunder.config.yaml" "$settings/thunder.config.yaml.previous"
  fi
  place 0644 root:root "$config" "$settings/thunder.config.yaml"
  place 0644 root:root "$checkout/config/examples/thunder/payload.sh" "$settings/thunder/handlers/payload.sh"
  place 0755 root:root "$checkout/config/examples/thunder/warmers" "$settings/thunder/handlers/warmers"
  place 0755 root:root "$checkout/config/examples/thunder/runners" "$settings/thunder/handlers/runners"
  place 0755 root:root "$here/prune-images.sh" "$settings/thunder/prune-images.sh"

  for unit in "${services[@]}"; do
    sed -e "s/^User=.*/User=$user/" -e "s/^Group=.*/Group=$group/" "$here/$unit" >"$scratch/$unit"
    place 0644 root:root "$scratch/$unit" "$units/$unit"
  done
}

# A step that is systemd's, or the words that say it was left out.
systemd() {
  if [ -n "$with_systemd" ]; then
    systemctl "$@"
  else
    echo "without systemd, skipped: systemctl $*"
  fi
}

# systemd itself knows which unit files it has read too long ago, also after a run that was broken off.
reload_units() {
  local unit
  if [ -z "$with_systemd" ]; then
    systemd daemon-reload
    return
  fi
  for unit in "${services[@]}"; do
    if [ "$(systemctl show --property NeedDaemonReload --value "$unit")" != no ]; then
      systemctl daemon-reload
      changed "systemd has read the units"
      return
    fi
  done
}

# Stopped containers and dangling images fill the disk; younger ones may belong to the build that runs. Images with a name have a
# script, which removes those of Thunder alone.
block_begin='# BEGIN tasker-thunder (changes between these two lines are lost)'
block_end='# END tasker-thunder'
crontab_block="$block_begin
17 3 * * * docker system prune --force --filter until=24h >/dev/null
37 3 * * * /etc/tasker/thunder/prune-images.sh >/dev/null
$block_end"

# Puts our lines into the crontab of the services' user, where they were or at its end, and touches no others.
refresh_crontab() {
  if [ -z "$with_crontab" ]; then
    return
  fi
  if ! command -v crontab >/dev/null; then
    note "there is no crontab command: install cron and run this again, or prune docker in another way"
    return
  fi
  local crontab=(crontab) old new
  if [ -n "$with_user" ]; then
    crontab+=(-u "$user")
  fi
  # Only the one known reason makes it an empty one: what cannot be read must not be written over.
  if ! old=$(LC_ALL=C "${crontab[@]}" -l 2>"$scratch/crontab"); then
    grep -qi 'no crontab for' "$scratch/crontab" || fail "the crontab cannot be read: $(cat "$scratch/crontab")"
    old=
  fi
  new=$(printf '%s' "${old:+$old$'\n'}" | block=$crontab_block awk -v begin="$block_begin" -v end="$block_end" '
    $0 == begin { if (!done) print ENVIRON["block"]; done = inside = 1; next }
    $0 == end && inside { inside = 0; next }
    !inside { print }
    END { if (inside) exit 1; if (!done) print ENVIRON["block"] }
  ') || fail "the crontab has a line '$block_begin' and no '$block_end' after it: mend it with crontab -e"
  if [ "$new" != "$old" ]; then
    printf '%s\n' "$new" | "${crontab[@]}" -
    changed "crontab: docker is pruned each night"
  fi
}

summary() {
  local each
  for each in "${notes[@]}"; do
    echo "note: $each"
  done
  if [ "$changes" -eq 0 ]; then
    echo "nothing was changed: all is as it should be"
  else
    echo "changed: $changes"
  fi
}
