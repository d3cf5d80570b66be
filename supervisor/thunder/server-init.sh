#!/usr/bin/env bash
# Sets up a Thunder server. Every step looks first, so that a second run changes nothing.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck disable=SC2034 # common.sh prints it
usage='usage: server-init.sh [OPTION...]

Sets up a Thunder server: user, directories, program, configuration, executables,
certificate, token, services, crontab. Run it again at any time: it changes only
what is not as it should be, and never a key, token or environment file.

  --user NAME             whom the services run as (as before, else
                          tasker-thunder)
  --group NAME            its group (as the user)
  --binary FILE           the program (target/release/tasker of the checkout,
                          else the one on the PATH)
  --config FILE           the configuration (config/examples/thunder.config.yaml)
  --thunder-home DIR      checkout with warmer/, runner/ and the compose files
                          (/opt/thunder-performance-task-manager)
  --elastic-apm-url URL   ELASTIC_APM_URL of the builds (http://localhost:8200)
  --no-user               create no user, change no owner
  --no-systemd            say what systemd would be told, and leave it out
  --no-crontab            leave the crontab alone
  --help                  this text

DESTDIR=/some/directory in the environment goes before all paths that are written.'
# shellcheck source=common.sh
. "$here/common.sh"

thunder_home=/opt/thunder-performance-task-manager
elastic_apm_url=http://localhost:8200
while [ $# -gt 0 ]; do
  case $1 in
    --thunder-home | --elastic-apm-url)
      # They become lines of a file that systemd reads, which gives quotes and backslashes a meaning.
      [[ ${2:-} =~ ^[^[:space:]\"\'\\]+$ ]] || fail "$1 needs a value without spaces, quotes and backslashes"
      if [ "$1" = --thunder-home ]; then
        [[ $2 = /* ]] || fail "$1 has to begin with /: services run elsewhere"
        thunder_home=$2
      else
        elastic_apm_url=$2
      fi
      shift 2
      ;;
    *)
      option "$@"
      [ "$words" -gt 0 ] || fail "there is no option $1: try --help"
      shift "$words"
      ;;
  esac
done
prepare
command -v openssl >/dev/null || fail "openssl is not installed"

create_user() {
  local each
  if [ -z "$with_user" ]; then
    return
  fi
  for each in getent groupadd id runuser useradd usermod; do
    command -v "$each" >/dev/null || fail "$each is not installed"
  done
  if ! getent group "$group" >/dev/null; then
    groupadd --system "$group"
    changed "group $group"
  fi
  if ! getent passwd "$user" >/dev/null; then
    useradd --system --gid "$group" --home-dir /var/lib/tasker-thunder --no-create-home --shell /usr/sbin/nologin \
      --comment 'tasker for Thunder' "$user"
    changed "user $user"
  fi
  # The group of the key and the token, docker for the builds, systemd-journal to look at the logs.
  for each in "$group" docker systemd-journal; do
    if ! getent group "$each" >/dev/null; then
      note "there is no group $each: run this again once it is there"
    elif [[ " $(id -nG "$user") " != *" $each "* ]]; then
      usermod -aG "$each" "$user"
      changed "user $user is in the group $each"
    fi
  done
}

# Made for as long as it takes until somebody changes it by hand: whoever talks to this machine pins it.
create_certificate() {
  local host fresh=$scratch/certificate
  if [ -s "$key" ] && [ -s "$certificate" ]; then
    keep_secret "$key"
    return
  fi
  # One without the other: it may be somebody's who can still be asked for the rest.
  if [ -e "$key" ] || [ -e "$certificate" ]; then
    fail "of $key and $certificate only one is there: bring the other, or move it away"
  fi
  host=$(uname -n)
  mkdir "$fresh"
  # A file and no -addext: the system's openssl.cnf would add its own, which make an authority of the certificate, and strict
  # clients want no authority for a server.
  {
    printf '%s\n' '[req]' 'prompt = no' 'distinguished_name = name' 'x509_extensions = server' '[name]' 'CN = tasker-thunder'
    printf '%s\n' '[server]' 'basicConstraints = critical, CA:FALSE' 'keyUsage = critical, digitalSignature' 'extendedKeyUsage = serverAuth'
    printf '%s\n' 'subjectAltName = @names' '[names]' 'DNS.1 = localhost' 'IP.1 = 127.0.0.1' 'IP.2 = ::1'
    if [[ $host =~ ^[A-Za-z0-9.-]+$ && $host != localhost ]]; then
      printf '%s\n' "DNS.2 = $host"
    fi
  } >"$fresh/request"
  openssl req -x509 -config "$fresh/request" -days 3650 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 \
    -keyout "$fresh/key" -out "$fresh/cert" 2>"$fresh/said" || fail "openssl made no certificate: $(cat "$fresh/said")"
  # The key last: if this is interrupted, the next run says which of the two is there.
  place 0644 root:root "$fresh/cert" "$certificate"
  place 0640 "root:$group" "$fresh/key" "$key"
}

keep_secret() {
  if ! is_kept_as 0640 "root:$group" "$1"; then
    keep_as 0640 "root:$group" "$1"
    changed "mode of $1"
  fi
}

create_token() {
  if [ -s "$token" ]; then
    keep_secret "$token"
    return
  fi
  # Through a file alone: arguments can be seen by everybody on the machine.
  openssl rand -hex 64 | tr -d '\n' >"$scratch/token"
  place 0640 "root:$group" "$scratch/token" "$token"
}

# As the services' user, or the database would belong to root and they could not write to it.
as_service() {
  (
    cd /
    umask 027
    if [ -n "$with_user" ]; then
      exec runuser -u "$user" -- "$@"
    fi
    exec "$@"
  )
}

import_token() {
  local known=
  # Before the first import there is no database to ask.
  if [ -e "$data/tasker.db" ]; then
    known=$(as_service "$program" token list --data-dir "$data") || fail "the tokens cannot be listed"
  fi
  if awk '{ for (i = 1; i <= NF; i++) if ($i == "thunder") found = 1 } END { exit !found }' <<<"$known"; then
    return
  fi
  as_service "$program" token create --name thunder --scope submit,read,work --secret-file "$token" --data-dir "$data" >/dev/null ||
    fail "the token could not be imported"
  changed "token thunder, from $token"
}

create_environment() {
  if [ -e "$environment" ]; then
    grep -q '^ELASTIC_APM_URL=' "$environment" || note "$environment has no line ELASTIC_APM_URL="
    return
  fi
  printf '%s\n' '# For the services; restart them after a change. NAME=value, and TASKER_SECTION__KEY=value for keys of the configuration.' \
    "ELASTIC_APM_URL=$elastic_apm_url" "THUNDER_HOME=$thunder_home" >"$scratch/environment"
  place 0640 "root:$group" "$scratch/environment" "$environment"
}

start_services() {
  local unit
  reload_units
  for unit in "${services[@]}"; do
    if [ -z "$with_systemd" ]; then
      systemd enable --now "$unit"
    elif ! systemctl is-enabled --quiet "$unit" || ! systemctl is-active --quiet "$unit"; then
      systemctl enable --now "$unit"
      changed "$unit is enabled and started"
    elif [ "$placed" -gt 0 ]; then
      note "$unit runs with what was there before; deploy.sh restarts it"
    fi
  done
}

create_user
before=$changes
place_all
placed=$((changes - before))
directory 0700 "$user:$group" "$data"
create_certificate
create_token
import_token
create_environment
start_services
refresh_crontab
thunder_home=$(sed -n 's/^THUNDER_HOME=//p' "$environment")
[ -z "$thunder_home" ] || [ -d "$thunder_home" ] || note "there is no $thunder_home: the builds need the Thunder scripts there: warmer/build.sh, runner/build.sh and the compose files"
summary
