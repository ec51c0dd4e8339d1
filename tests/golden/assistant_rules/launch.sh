#!/usr/bin/env bash
# Compiled by specgen from the spec 'assistant_rules'. Do not edit: change the spec and compile again.
# Runs every stage, from the working folder that the spec's paths start at.
set -euo pipefail
build=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "${PYTHON:-python}" -m runtime "$build" "$@"
