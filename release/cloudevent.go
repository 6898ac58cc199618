package release

// CloudEventPrefix begins the type of every CloudEvent of Waymark, which is a name
// in reversed DNS order; what follows is an action of the audit log, such as
// run.succeeded.
const CloudEventPrefix = "io.github.waymark-cd."

// CloudEventType is the CloudEvents type of an action of the audit log.
func CloudEventType(action string) string { return CloudEventPrefix + action }
