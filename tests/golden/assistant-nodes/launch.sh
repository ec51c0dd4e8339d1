#!/usr/bin/env bash
# Compiled by specgen from the spec 'assistant-nodes'. Do not edit: change the spec and compile again.
# Runs every stage, from the working folder that the spec's paths start at.
# The same on each of the 2 nodes, in a working folder that they share, with the path of this file:
#   MASTER_ADDR=first-node bash PATH/launch.sh
# The first node is the one with that address, or with NODE_RANK=0. They meet on port ${MASTER_PORT:-29500}.
set -euo pipefail
build=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
: "${MASTER_ADDR:?the name or address of the first node}"
exec "${PYTHON:-python}" -m runtime "$build" "$@"
