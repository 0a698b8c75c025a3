#!/bin/bash
# Installs a package that makes a user, after the Python packages.
set -euo pipefail
apt-get update
apt-get install -y --no-install-recommends uuid-runtime
install -d -o worker -g uuidd -m 2755 /opt/marks
dpkg-query -W -f '${Package} ${Status}\n' hello libsodium23 uuid-runtime > /opt/marks/packages
getent passwd uuidd worker | cut -d: -f1,6 > /opt/marks/users
ls -ld /home/worker | cut -d' ' -f1,3,4 > /opt/marks/home
ln -s packages /opt/marks/link
chmod 4755 /opt/marks/packages
