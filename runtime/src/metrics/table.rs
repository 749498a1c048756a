//! The table of metrics. The README has the same, which a test compares.

use super::Kind::{self, Counter, Gauge, Histogram, Info};
use super::Metric;

const fn metric(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind, unit, labels, help }
}

/// Labels of what passes from an output to an endpoint.
const FROM_TO: &[&str] = &["sender", "output", "endpoint"];

/// Every metric, in the order in which they are told.
#[rustfmt::skip]
pub const METRICS: &[Metric] = &[
    metric("build", Info, "", &["version", "os", "arch"], "What runs."),
    metric("start_time", Gauge, "seconds", &[], "When the runtime started, since 1970-01-01 UTC."),
    metric("modules", Gauge, "", &["status"], "Instances by status."),
    metric("module_status", Gauge, "", &["module", "status"], "1 for the status that the instance has."),
    metric("module_starts", Counter, "", &["module"], "Starts."),
    metric("module_exits", Counter, "", &["module", "outcome"], "Ends: clean (asked for) or failed."),
    metric("module_failures", Gauge, "", &["module"], "Failures since it last ran steadily."),
    metric("module_last_start_time", Gauge, "seconds", &["module"], "When it last started, since 1970-01-01 UTC."),
    metric("module_last_exit_time", Gauge, "seconds", &["module"], "When it last ended, since 1970-01-01 UTC."),
    metric("module_last_exit_code", Gauge, "", &["module"], "How it last ended: 0 clean, 1 failed."),
    metric("module_running_correctly", Counter, "seconds", &["module"], "How long it was up while it should have been."),
    metric("module_expected_running", Counter, "seconds", &["module"], "How long it should have been up; the quotient of both is its availability."),
    metric("module_cpu", Counter, "seconds", &["module"], "Processor time of all its threads."),
    metric("module_memory", Gauge, "bytes", &["module"], "Memory of its image, which all instances of that image share."),
    metric("module_deliveries_repeated", Counter, "", &["module", "verdict"], "Deliveries that ended without the message being handled and are repeated: retry, or fault (also a panic)."),
    metric("module_log_lines_dropped", Counter, "", &["module", "reason"], "Lines of its log that were dropped: rate, queue or disk."),
    metric("images", Gauge, "", &["verdict"], "Images in the store by verdict, and files that were refused."),
    metric("identities", Gauge, "", &["kind", "status"], "Identities: device or module, enabled or disabled."),
    metric("identities_connected", Gauge, "", &[], "Identities that are connected."),
    metric("twins", Gauge, "", &[], "Twins."),
    metric("twin_changes", Counter, "", &["section"], "Committed changes of tags, desired and reported properties."),
    metric("twin_changes_refused", Counter, "", &["reason"], "Changes of twins that were refused."),
    metric("twin_changes_failed", Counter, "", &[], "Changes of twins that were accepted and could not be stored."),
    metric("twin_history_changes", Gauge, "", &[], "Changes in the histories of all twins."),
    metric("twin_acknowledgements", Gauge, "", &["outcome"], "Twins by what the module said to the newest desired properties: accepted, refused or outstanding."),
    metric("methods", Counter, "", &["outcome"], "Direct method calls by how they ended."),
    metric("methods_open", Gauge, "", &[], "Direct method calls under way."),
    metric("methods_duration", Histogram, "seconds", &[], "Time until direct methods were answered."),
    metric("methods_late", Counter, "", &[], "Answers to direct methods that came after their deadline and were dropped."),
    metric("secrets", Gauge, "", &[], "Secrets that are set."),
    metric("secret_changes", Counter, "", &[], "Secrets set, allowed or removed."),
    metric("secrets_given", Counter, "", &[], "Values of secrets that went into the code of modules."),
    metric("secrets_refused", Counter, "", &["reason"], "How often a secret was looked up for a module and could not be given: not_set, not_allowed or not_readable."),
    metric("api_requests", Counter, "", &["route", "method", "status"], "Requests to the management API by route and class of the status."),
    metric("api_requests_refused", Counter, "", &["reason"], "Requests that were refused for who asked or their size: token, role, size or rate."),
    metric("api_tokens_refused", Counter, "", &["reason"], "Tokens that were not taken: missing, malformed, expired, scope, unknown, disabled or key."),
    metric("api_requests_duration", Counter, "seconds", &["route", "method"], "Time until requests were answered, waiting that was asked for included."),
    metric("api_connections", Gauge, "", &[], "Clients of the management API that are connected."),
    metric("audit_lines", Counter, "", &[], "Lines of the record of who did what."),
    metric("messages_sent", Counter, "", &["sender", "output"], "Messages that were sent."),
    metric("messages_unrouted", Counter, "", &["sender", "output"], "Messages that no route wanted."),
    metric("messages_taken", Counter, "", FROM_TO, "Messages that were taken out of a queue in memory, as a rule by their receiver."),
    metric("messages_lost", Gauge, "", &["sender", "output", "endpoint", "reason"], "Messages that were lost or parked, as the ledger has them over all runs; of reason runtimeDied at most so many."),
    metric("queue_messages", Gauge, "", &["endpoint"], "Messages that wait in memory, where durable ones are beside the disk."),
    metric("queue", Gauge, "bytes", &["endpoint"], "Bytes of messages that wait in memory."),
    metric("store_messages", Gauge, "", &["state"], "Messages on disk: waiting or parked."),
    metric("store", Gauge, "bytes", &[], "Bytes of messages on disk."),
    metric("store_limit", Gauge, "bytes", &[], "Bytes of messages that may wait on disk."),
    metric("store_endpoint", Gauge, "bytes", &["endpoint"], "Bytes of messages on disk by endpoint."),
    metric("store_endpoint_limit", Gauge, "bytes", &["endpoint"], "Bytes that may wait on disk for an endpoint with a limit of its own."),
    metric("store_full", Gauge, "", &[], "1 while there is no room for further messages, whatever the budgets say."),
    metric("store_added", Counter, "", &["endpoint"], "Messages that were put on disk."),
    metric("store_written", Counter, "bytes", &["endpoint"], "Bytes that were written to the disk for messages, log and file, by the share of each endpoint."),
    metric("database_commits", Counter, "", &[], "Commits that succeeded."),
    metric("database_changes", Counter, "", &[], "Changes in them; divided by the commits: the mean group."),
    metric("database_failures", Counter, "", &[], "Changes that failed."),
    metric("database_commit", Histogram, "seconds", &[], "Time in commits, with their sync."),
    metric("database_longest_commit", Gauge, "seconds", &[], "The longest commit."),
    metric("database_written", Counter, "bytes", &["file", "part"], "Bytes that were written to the disk: into the log of a database, and from there into the database."),
    metric("database_file", Gauge, "bytes", &["file"], "Size of the databases and their write-ahead logs."),
    metric("disk_ballast", Gauge, "bytes", &[], "Room that is held back for a full disk; 0 once it was given up."),
    metric("disk_free", Gauge, "bytes", &[], "Free space for the state directory."),
    metric("disk_size", Gauge, "bytes", &[], "Size of the file system of the state directory."),
    metric("log_lines", Counter, "", &[], "Lines written to the log."),
    metric("log_lines_dropped", Counter, "", &["reason"], "Lines of the runtime's own log that were dropped: rate, queue or disk."),
    metric("scrape", Histogram, "seconds", &[], "Time to put the metrics together, of earlier scrapes."),
];
