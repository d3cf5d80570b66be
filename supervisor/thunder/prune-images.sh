#!/bin/sh
# Removes images of branches that nobody tests any more; started each night by the crontab entry.
#
# A branch is tested for three days after it was last queued, and warming up makes new images, so what is a week old is not needed.
# Only images of Thunder are touched: `docker image prune --all` knows no names and would take everybody's.
set -eu

limit=$(date --date '-7 days' +%s)
for name in warm-db warm-thunder-php burda/thunder-performance; do
  for image in $(docker image ls --format '{{.Repository}}:{{.Tag}}' "$name"); do
    created=$(date --date "$(docker image inspect --format '{{.Created}}' "$image")" +%s)
    if [ "$created" -lt "$limit" ]; then
      # One that a container uses is refused, and goes another night.
      docker image rm "$image" || true
    fi
  done
done
