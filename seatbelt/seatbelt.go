// Package seatbelt owns the macOS boundary: it turns a policy into a profile
// for sandbox-exec(1), and what the kernel says about that profile in the
// unified log into events.
//
// It never proxies and never stores. Whatever can be pure is, and is tested on
// every system; programs are started only through the Exec interface, whose one
// real implementation is in exec_darwin.go.
//
// Hazards: a record of the log is only as good as its reporter, so live records
// are taken from the kernel alone and must end in the run's own tag; the name
// and the target in them are the sandboxed process's choice. A Stream must be
// stopped, or /usr/bin/log lives on.
package seatbelt
