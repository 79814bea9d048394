#!/bin/sh
# Whether a server is healthy, in one line with the time: for cron, rollbacks and whoever has only curl or wget.
# Exit code 0 if it is, 1 if not. `mahavishnu verify` looks at more.
#
#   install -m 0755 deploy/check-mahavishnu-health.sh /usr/local/bin/
#   */5 * * * * /usr/local/bin/check-mahavishnu-health.sh >> /var/log/mahavishnu-health.log 2>&1
#
# HEALTH_URL       [http://localhost:8686/health]
# HEALTH_TIMEOUT   seconds [5]
# EXPECTED_STATUS  [200]
# HEALTH_CA_FILE   certificates that are trusted, for https [the system's]

set -eu

url=${HEALTH_URL:-http://localhost:8686/health}
timeout=${HEALTH_TIMEOUT:-5}
expected=${EXPECTED_STATUS:-200}
ca=${HEALTH_CA_FILE:-}

# The body, then the status on a line of its own; 000 where nobody answers.
if command -v curl >/dev/null 2>&1; then
    answer=$(curl -s --max-time "$timeout" ${ca:+--cacert "$ca"} -w '\n%{http_code}' "$url" 2>/dev/null) ||
        answer="$answer
000"
elif command -v wget >/dev/null 2>&1; then
    # The last status of what -S shows; a failed attempt shows none.
    answer=$(wget -q -S -O - --content-on-error --tries=1 --timeout="$timeout" ${ca:+--ca-certificate="$ca"} "$url" 2>&1 || true)
    code=$(printf '%s\n' "$answer" | sed -n 's/^ *HTTP\/[0-9.]* \([0-9][0-9][0-9]\).*/\1/p' | tail -n 1)
    answer="$answer
${code:-000}"
else
    echo "✗ Health check failed (neither curl nor wget is installed)"
    exit 1
fi

status=$(printf '%s\n' "$answer" | tail -n 1)
now=$(date -u +%Y-%m-%dT%H:%M:%SZ)
# The server answers 200 as long as it serves, and says in the body what is behind it and fails.
failing=$(printf '%s\n' "$answer" | grep -o '"[a-z]*":"failing"' | cut -d'"' -f2 | tr '\n' ' ') || true

if [ "$status" = "$expected" ]; then
    echo "✓ Health check passed (HTTP $status) $now${failing:+ failing: $failing}"
else
    echo "✗ Health check failed (HTTP $status, expected $expected) $now $url"
    exit 1
fi
