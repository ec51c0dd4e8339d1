#!/usr/bin/env bash
# What action.yml runs. Checks the specs (annotations), then says what has changed: in the job's summary and in a comment.
#   SPECS         shell patterns of specs                BASE     revision to compare with; empty: no comparison
#   COMMENT       true to comment on PULL_REQUEST         GH_TOKEN what gh writes the comment with
set -uo pipefail

marker="<!-- specgen -->"
shopt -s nullglob globstar
specs=()
for pattern in ${SPECS:-specs/*.yaml}; do
  for file in $pattern; do
    case $file in *.lock.yaml | *.lock.yml) ;; *) specs+=("$file") ;; esac
  done
done
if [ ${#specs[@]} -eq 0 ]; then
  echo "::error::no spec matches ${SPECS:-specs/*.yaml}"
  exit 2
fi

specgen check --format github "${specs[@]}"
code=$?

if [ -n "${BASE:-}" ]; then
  report=$(mktemp)
  trap 'rm -f "$report"' EXIT
  {
    echo "$marker"
    echo "## What this change means"
    echo
    specgen diff --git "$BASE...HEAD" --format markdown
  } >"$report" 2>&1 || { [ "$code" -ne 0 ] || code=2; }
  cat "$report" >>"${GITHUB_STEP_SUMMARY:-/dev/stdout}"
  if [ "${COMMENT:-}" = true ] && [ -n "${PULL_REQUEST:-}" ]; then
    comments="repos/$GITHUB_REPOSITORY/issues/$PULL_REQUEST/comments"
    own=$(gh api "$comments" --paginate --jq "[.[] | select(.body | startswith(\"$marker\")) | .id] | first // empty")
    if [ -n "$own" ]; then
      gh api --silent --method PATCH "repos/$GITHUB_REPOSITORY/issues/comments/$own" --field "body=@$report"
    else
      gh api --silent --method POST "$comments" --field "body=@$report"
    fi || echo "::warning::the comment could not be written; the job's summary has the same"
  fi
fi
exit "$code"
