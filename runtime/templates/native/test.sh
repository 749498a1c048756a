# What the module makes of messages: each line that it sends or reports, and its verdict. No runtime is needed.
# `make test` compares it with test.expected. After a change that is wanted: sh test.sh ./{{library}} > test.expected
# A module that crashes, hangs or exits has failed, whatever it said before: then all of it is shown.
tried="$1.tried"
dinrail try "$1" --desired limit=60 \
  --message 'readings={"name":"oil","value":59.5,"sourceTime":"2026-11-21T08:00:00Z"}' \
  --message 'readings={"name":"oil","value":60.5,"sourceTime":"2026-11-21T08:00:01Z"}' \
  --message 'readings=hello' \
  --patch '{"limit":"high"}' \
  --patch limit=90 \
  --message 'readings={"name":"oil","value":60.5,"sourceTime":"2026-11-21T08:00:02Z"}' > "$tried" 2>&1 || {
  status=$?
  cat "$tried" >&2
  rm -f "$tried"
  exit "$status"
}
grep -E '^on_|^  (sends|reports|= (accept|park|retry|fault|refused))' "$tried"
rm -f "$tried"
