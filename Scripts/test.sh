#!/usr/bin/env bash
# Runs the tests. If they fail, the last lines of the output say which and why, whatever came before.
set -uo pipefail
cd "$(dirname "$0")/.."
mkdir -p .build
log=.build/test.log
"${SWIFT:-swift}" test -c release "$@" 2>&1 | tee "$log"
status=${PIPESTATUS[0]}
[ "$status" -ne 0 ] || exit 0

echo
echo "The tests failed; all of the output is in $log. What failed:"
# An issue comes with lines that begin with an arrow. A test that was still running at a crash has started and not ended.
awk '
  /xited with unexpected signal/ { crashed = 1 }
  / error: |^error: / { print; next }
  /recorded an issue|Time limit was exceeded/ { print; issue = 1; next }
  issue && /^[^ ]* ?↳/ { print; next }
  { issue = 0 }
  match($0, /Test (case passing .* to )?.* started\.$/) && !/Test (run|case) / {
    name = substr($0, RSTART, RLENGTH - 9); started[name] = 1
  }
  match($0, /Test .* (passed|failed) after /) {
    name = substr($0, RSTART, RLENGTH); sub(/ (passed|failed) after $/, "", name); delete started[name]
  }
  END { if (crashed) for (name in started) print "still running at the crash: " name }
' "$log"
exit "$status"
