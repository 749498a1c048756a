# What the module makes of messages: each line that it sends or reports, and its verdict. No runtime is needed.
# `make test` compares it with test.expected. After a change that is wanted: sh test.sh ./{{library}} > test.expected
dinrail try "$1" --desired limit=60 \
  --message 'readings={"name":"oil","value":59.5,"sourceTime":"2026-11-21T08:00:00Z"}' \
  --message 'readings={"name":"oil","value":60.5,"sourceTime":"2026-11-21T08:00:01Z"}' \
  --message 'readings=hello' \
  --patch '{"limit":"high"}' \
  --patch limit=90 \
  --message 'readings={"name":"oil","value":60.5,"sourceTime":"2026-11-21T08:00:02Z"}' |
  grep -E '^on_|^  (sends|reports|= (accept|park|retry|fault|refused))'
